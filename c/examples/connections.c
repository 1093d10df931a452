/* connections.c: a server that keeps what its clients tell it, with an allocator for each
 * connection.
 *
 * A client sends lines: "set NAME VALUE" and "get NAME". All that the server stores for it lies in
 * a MemoryAllocator of its connection, which has a limit, and is destroyed as a whole when the
 * client leaves. Nothing is freed piece by piece, and a client that asks for too much fails alone.
 *
 * connections PORT serves on the loopback interface until it is stopped. Without a port the program
 * is its own client, and ends. */
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <valloc.h>

enum { CLIENTS = 8, NAMES = 200, LINE_BYTES = 4096, LIMIT_BYTES = 1 << 20 };

typedef struct Entry {
    struct Entry *next;
    char *value;
    char name[];
} Entry;

typedef struct Connection {
    MemoryAllocator memory;
    Entry *entries;
} Connection;

static atomic_size_t most_blocks; /* that a connection held */

/* ---- The server ---- */

static Entry *find(Connection *connection, const char *name)
{
    Entry *entry = connection->entries;
    while (entry != NULL && strcmp(entry->name, name) != 0)
        entry = entry->next;
    return entry;
}

static char *copy(Connection *connection, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *block = valloc_allocate(&connection->memory, bytes);
    return block == NULL ? NULL : memcpy(block, text, bytes);
}

/* False if the connection's memory is at its limit. */
static bool set(Connection *connection, const char *name, const char *value)
{
    char *copied = copy(connection, value);
    Entry *entry = find(connection, name);
    if (copied == NULL)
        return false;
    if (entry == NULL) {
        size_t bytes = sizeof(Entry) + strlen(name) + 1;
        entry = valloc_allocate(&connection->memory, bytes);
        if (entry == NULL) {
            free_valloc(&connection->memory, copied);
            return false;
        }
        *entry = (Entry){.next = connection->entries};
        memcpy(entry->name, name, strlen(name) + 1);
        connection->entries = entry;
    }
    free_valloc(&connection->memory, entry->value);
    entry->value = copied;
    return true;
}

static void answer(Connection *connection, char *line, FILE *out)
{
    char *rest = NULL;
    const char *verb = strtok_r(line, " \n", &rest);
    const char *name = strtok_r(NULL, " \n", &rest);
    const char *value = strtok_r(NULL, "\n", &rest);
    if (verb == NULL || name == NULL)
        fputs("error: what?\n", out);
    else if (strcmp(verb, "set") == 0)
        fputs(set(connection, name, value == NULL ? "" : value) ? "ok\n" : "error: full\n", out);
    else if (strcmp(verb, "get") == 0 && find(connection, name) != NULL)
        fprintf(out, "%s\n", find(connection, name)->value);
    else
        fputs("error: no such name\n", out);
    fflush(out);
}

static void *serve_one(void *socket)
{
    static const valloc_options options = {.hard_limit = LIMIT_BYTES, .name = "connection"};
    Connection connection = {.entries = NULL};
    FILE *in = fdopen((int)(intptr_t)socket, "r");
    FILE *out = fdopen(dup((int)(intptr_t)socket), "w");
    char line[LINE_BYTES];
    /* Its one thread has a cache in it. */
    if (in != NULL && out != NULL && valloc_init_with(&connection.memory, 1, 1, &options) == 0) {
        while (fgets(line, sizeof(line), in) != NULL)
            answer(&connection, line, out);
        size_t blocks = connection.memory.used_blocks;
        if (blocks > atomic_load(&most_blocks))
            atomic_store(&most_blocks, blocks);
        valloc_destroy(&connection.memory);
    }
    if (out != NULL)
        fclose(out);
    if (in != NULL)
        fclose(in);
    return NULL;
}

static void *serve(void *listener)
{
    int client;
    while ((client = accept((int)(intptr_t)listener, NULL, NULL)) >= 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)client) == 0)
            pthread_detach(thread);
        else
            close(client);
    }
    return NULL;
}

static int listen_on(struct sockaddr_in *address)
{
    socklen_t bytes = sizeof(*address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)address, bytes) != 0 ||
        listen(listener, CLIENTS) != 0 ||
        getsockname(listener, (struct sockaddr *)address, &bytes) != 0) {
        perror("connections");
        exit(1);
    }
    return listener;
}

/* ---- A client that checks the answers ---- */

static void ask(FILE *in, FILE *out, const char *request, char line[LINE_BYTES])
{
    fprintf(out, "%s\n", request);
    fflush(out);
    if (fgets(line, LINE_BYTES, in) == NULL)
        strcpy(line, "nothing\n");
}

static void expect(FILE *in, FILE *out, const char *request, const char *wanted)
{
    char line[LINE_BYTES];
    ask(in, out, request, line);
    if (strcmp(line, wanted) != 0) {
        fprintf(stderr, "%s was answered by %s", request, line);
        exit(1);
    }
}

static void *visit(void *address)
{
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(server, address, sizeof(struct sockaddr_in)) != 0) {
        perror("connections");
        exit(1);
    }
    FILE *in = fdopen(server, "r");
    FILE *out = fdopen(dup(server), "w");
    char request[LINE_BYTES];
    char line[LINE_BYTES] = "";
    for (int i = 0; i < 3 * NAMES; i++) { /* each is set three times */
        snprintf(request, sizeof(request), "set name%d value %d", i % NAMES, i);
        expect(in, out, request, "ok\n");
    }
    for (int i = 0; i < NAMES; i++) {
        snprintf(request, sizeof(request), "get name%d", i);
        snprintf(line, sizeof(line), "value %d\n", i + 2 * NAMES);
        expect(in, out, request, line);
    }
    /* Until the connection's memory is full. What it has stays. */
    for (int i = 0; i < LIMIT_BYTES / 1000 && strcmp(line, "error: full\n") != 0; i++) {
        snprintf(request, sizeof(request), "set large%d %01000d", i, 0);
        ask(in, out, request, line);
    }
    expect(in, out, request, "error: full\n");
    snprintf(line, sizeof(line), "value %d\n", 2 * NAMES);
    expect(in, out, "get name0", line);
    fclose(out);
    fclose(in);
    return NULL;
}

int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 0;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = listen_on(&address);
    if (argc > 1) {
        serve((void *)(intptr_t)listener);
        return 1;
    }
    pthread_t server;
    pthread_t clients[CLIENTS];
    if (pthread_create(&server, NULL, serve, (void *)(intptr_t)listener) != 0)
        return 1;
    for (int i = 0; i < CLIENTS; i++)
        if (pthread_create(&clients[i], NULL, visit, &address) != 0)
            return 1;
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(clients[i], NULL);
    printf("%d connections served; one held %zu blocks of 64 KiB at most\n", CLIENTS,
           atomic_load(&most_blocks));
    return 0;
}
