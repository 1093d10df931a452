/* threads.c PATTERN [PERCENT]: memory that crosses threads, for any allocator that is preloaded or
 * linked. Prints operations (allocations and frees) per second, the peak and the final resident
 * memory in KiB, and a checksum of all contents, the same for every allocator.
 *
 *   oneway   one thread allocates, one frees
 *   ring     four threads; each frees what the previous one allocated
 *   all      four threads free one another's blocks, at random, with random lifetimes
 *   server   two threads build requests of a dozen blocks, two others free them and keep some state
 *   freer    sixteen threads allocate, one frees
 *   sharing  small objects are passed to workers that free, allocate and write them repeatedly
 *   batch    blocks are passed on a thousand at a time
 *   many     64 threads with their own blocks, some of which are passed on
 *   spawn    one thread for every request, which leaves some of its blocks behind
 *
 * PERCENT scales the work; 100 takes one to a few seconds. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- Blocks with verified contents ---- */

typedef struct Message {
    uint32_t bytes; /* of the whole block */
    uint32_t seed;
    unsigned char payload[];
} Message;

static _Atomic uint64_t checksum;   /* of all messages freed: order does not matter */
static _Atomic uint64_t operations; /* allocations and frees */

typedef struct Worker {
    uint64_t state; /* of the random numbers */
    uint64_t checksum;
    uint64_t operations;
} Worker;

static uint32_t next_random(Worker *worker)
{
    worker->state = worker->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(worker->state >> 33);
}

static Worker start_worker(uint64_t seed)
{
    Worker worker = {.state = seed * 0x9e3779b97f4a7c15u + 1};
    next_random(&worker);
    return worker;
}

static void end_worker(Worker *worker)
{
    atomic_fetch_add(&checksum, worker->checksum);
    atomic_fetch_add(&operations, worker->operations);
}

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "threads: %s\n", what);
    abort();
}

static Message *make_sized(Worker *worker, uint32_t bytes)
{
    Message *message = malloc(bytes);
    if (message == NULL)
        fail("out of memory");
    message->bytes = bytes;
    message->seed = next_random(worker);
    memset(message->payload, (unsigned char)message->seed, bytes - sizeof *message);
    worker->operations++;
    return message;
}

/* Sizes as programs have them: most small, few large. */
static Message *make(Worker *worker)
{
    uint32_t r = next_random(worker);
    uint32_t span = r % 16 < 10 ? 112 : r % 16 < 15 ? 1000 : 8000;
    return make_sized(worker, 16 + (r >> 4) % span);
}

static void drop(Worker *worker, Message *message)
{
    if (message == NULL)
        return;
    uint32_t length = message->bytes - (uint32_t)sizeof *message;
    unsigned char expected = (unsigned char)message->seed;
    if (length > 0 &&
        (message->payload[0] != expected || message->payload[length / 2] != expected ||
         message->payload[length - 1] != expected))
        fail("a block's contents have changed");
    worker->checksum += (uint64_t)message->seed * message->bytes;
    worker->operations++;
    free(message);
}

/* ---- One-way queues ---- */

#define QUEUE 1024

typedef struct Queue {
    _Alignas(64) _Atomic size_t written;
    _Alignas(64) _Atomic size_t read;
    _Alignas(64) void *items[QUEUE];
} Queue;

static size_t queue_length = QUEUE;

static void put(Queue *queue, void *item)
{
    size_t at = atomic_load_explicit(&queue->written, memory_order_relaxed);
    while (at - atomic_load_explicit(&queue->read, memory_order_acquire) >= queue_length)
        sched_yield();
    queue->items[at % QUEUE] = item;
    atomic_store_explicit(&queue->written, at + 1, memory_order_release);
}

/* NULL if there is nothing. */
static void *poll_item(Queue *queue)
{
    size_t at = atomic_load_explicit(&queue->read, memory_order_relaxed);
    if (atomic_load_explicit(&queue->written, memory_order_acquire) == at)
        return NULL;
    void *item = queue->items[at % QUEUE];
    atomic_store_explicit(&queue->read, at + 1, memory_order_release);
    return item;
}

static void *take(Queue *queue)
{
    void *item;
    while ((item = poll_item(queue)) == NULL)
        sched_yield();
    return item;
}

/* ---- Running ---- */

#define THREADS_MAX 64
static Queue queues[THREADS_MAX];
static size_t work; /* per thread, set by each pattern */

static size_t percent = 100;

static size_t scaled(size_t count)
{
    return count * percent / 100 > 0 ? count * percent / 100 : 1;
}

static void start(pthread_t *thread, void *(*body)(void *), uintptr_t argument)
{
    if (pthread_create(thread, NULL, body, (void *)argument) != 0)
        fail("no thread");
}

static void run_threads(size_t count, void *(*body)(void *))
{
    pthread_t threads[THREADS_MAX];
    for (size_t i = 0; i < count; i++)
        start(&threads[i], body, i);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

/* ---- Patterns ---- */

static void *oneway_body(void *index)
{
    Worker worker = start_worker((uintptr_t)index);
    for (size_t i = 0; i < work; i++) {
        if ((uintptr_t)index == 0)
            put(&queues[0], make(&worker));
        else
            drop(&worker, take(&queues[0]));
    }
    end_worker(&worker);
    return NULL;
}

static void oneway(void)
{
    work = scaled(6000000);
    run_threads(2, oneway_body);
}

#define RING 4
static void *ring_body(void *index)
{
    size_t self = (uintptr_t)index;
    Worker worker = start_worker(self);
    for (size_t i = 0; i < QUEUE / 2; i++)
        put(&queues[(self + 1) % RING], make(&worker));
    for (size_t i = 0; i < work; i++) {
        drop(&worker, take(&queues[self]));
        put(&queues[(self + 1) % RING], make(&worker));
    }
    for (size_t i = 0; i < QUEUE / 2; i++)
        drop(&worker, take(&queues[self]));
    end_worker(&worker);
    return NULL;
}

static void ring(void)
{
    work = scaled(1500000);
    run_threads(RING, ring_body);
}

#define TABLE ((size_t)1 << 16)
static _Atomic(Message *) table[TABLE];

static void empty_table(void)
{
    Worker worker = start_worker(0);
    for (size_t i = 0; i < TABLE; i++)
        drop(&worker, atomic_exchange(&table[i], NULL));
    end_worker(&worker);
}

static void *all_body(void *index)
{
    Worker worker = start_worker((uintptr_t)index);
    for (size_t i = 0; i < work; i++) {
        Message *message = make(&worker);
        drop(&worker, atomic_exchange(&table[next_random(&worker) % TABLE], message));
    }
    end_worker(&worker);
    return NULL;
}

static void all(void)
{
    work = scaled(1500000);
    run_threads(4, all_body);
    empty_table();
}

#define REQUEST_BLOCKS 12
#define SESSIONS 20000
static void *server_body(void *index)
{
    size_t self = (uintptr_t)index;
    Worker worker = start_worker(self);
    if (self < 2) {
        for (size_t i = 0; i < work; i++) {
            Message **request = malloc(REQUEST_BLOCKS * sizeof *request);
            if (request == NULL)
                fail("out of memory");
            worker.operations++;
            for (size_t part = 0; part < REQUEST_BLOCKS; part++)
                request[part] = make(&worker);
            put(&queues[self], request);
        }
    } else {
        Message **sessions = calloc(SESSIONS, sizeof *sessions);
        if (sessions == NULL)
            fail("out of memory");
        for (size_t i = 0; i < work; i++) {
            Message **request = take(&queues[self - 2]);
            Message **session = &sessions[next_random(&worker) % SESSIONS];
            drop(&worker, *session);
            *session = request[0];
            for (size_t part = 1; part < REQUEST_BLOCKS; part++)
                drop(&worker, request[part]);
            free(request);
            worker.operations++;
        }
        for (size_t i = 0; i < SESSIONS; i++)
            drop(&worker, sessions[i]);
        free(sessions);
    }
    end_worker(&worker);
    return NULL;
}

static void server(void)
{
    work = scaled(200000);
    queue_length = 100; /* requests */
    run_threads(4, server_body);
}

#define PRODUCERS 16
static void *freer_body(void *index)
{
    size_t self = (uintptr_t)index;
    Worker worker = start_worker(self);
    if (self < PRODUCERS) {
        for (size_t i = 0; i < work; i++)
            put(&queues[self], make(&worker));
    } else {
        for (size_t left = work * PRODUCERS; left > 0;) {
            size_t before = left;
            for (size_t i = 0; i < PRODUCERS; i++)
                for (Message *message; (message = poll_item(&queues[i])) != NULL; left--)
                    drop(&worker, message);
            if (left == before)
                sched_yield();
        }
    }
    end_worker(&worker);
    return NULL;
}

static void freer(void)
{
    work = scaled(250000);
    run_threads(PRODUCERS + 1, freer_body);
}

#define SHARERS 4
#define OBJECT 16
static Message *handed[SHARERS];

/* Each worker's object was allocated beside the others' by one thread. */
static void *sharing_body(void *index)
{
    size_t self = (uintptr_t)index;
    Worker worker = start_worker(self);
    Message *object = handed[self];
    for (size_t i = 0; i < work; i++) {
        drop(&worker, object);
        object = make_sized(&worker, OBJECT);
        for (int turn = 0; turn < 100; turn++)
            *(volatile unsigned char *)&object->payload[turn % 8] = (unsigned char)object->seed;
    }
    drop(&worker, object);
    end_worker(&worker);
    return NULL;
}

static void sharing(void)
{
    Worker worker = start_worker(99);
    size_t rounds = scaled(100);
    work = 8000;
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < SHARERS; i++)
            handed[i] = make_sized(&worker, OBJECT);
        run_threads(SHARERS, sharing_body);
    }
    end_worker(&worker);
}

#define BATCH 1000
static void *batch_body(void *index)
{
    Worker worker = start_worker((uintptr_t)index);
    for (size_t i = 0; i < work; i++) {
        if ((uintptr_t)index % 2 == 0) {
            Message **batch = malloc(BATCH * sizeof *batch);
            if (batch == NULL)
                fail("out of memory");
            for (size_t b = 0; b < BATCH; b++)
                batch[b] = make(&worker);
            put(&queues[(uintptr_t)index / 2], batch);
        } else {
            Message **batch = take(&queues[(uintptr_t)index / 2]);
            for (size_t b = 0; b < BATCH; b++)
                drop(&worker, batch[b]);
            free(batch);
        }
        worker.operations++;
    }
    end_worker(&worker);
    return NULL;
}

static void batch(void)
{
    work = scaled(2000);
    queue_length = 8; /* batches */
    run_threads(4, batch_body);
}

#define OWN 200
static void *many_body(void *index)
{
    Worker worker = start_worker((uintptr_t)index);
    Message *own[OWN] = {NULL};
    for (size_t i = 0; i < work; i++) {
        size_t at = next_random(&worker) % OWN;
        if (next_random(&worker) % 8 == 0)
            own[at] = atomic_exchange(&table[next_random(&worker) % TABLE], own[at]);
        drop(&worker, own[at]);
        own[at] = make(&worker);
    }
    for (size_t at = 0; at < OWN; at++)
        drop(&worker, own[at]);
    end_worker(&worker);
    return NULL;
}

static void many(void)
{
    work = scaled(120000);
    run_threads(THREADS_MAX, many_body);
    empty_table();
}

static void *spawn_body(void *index)
{
    Worker worker = start_worker((uintptr_t)index);
    Message *blocks[60];
    for (size_t i = 0; i < 60; i++)
        blocks[i] = make(&worker);
    for (size_t i = 0; i < 60; i++) {
        if (i % 10 == 0)
            blocks[i] = atomic_exchange(&table[next_random(&worker) % TABLE], blocks[i]);
        drop(&worker, blocks[i]);
    }
    end_worker(&worker);
    return NULL;
}

static void spawn(void)
{
    enum { AT_ONCE = 4 };
    pthread_t threads[AT_ONCE];
    size_t requests = scaled(40000);
    for (size_t i = 0; i < requests; i++) {
        if (i >= AT_ONCE)
            pthread_join(threads[i % AT_ONCE], NULL);
        start(&threads[i % AT_ONCE], spawn_body, i);
    }
    for (size_t i = 0; i < AT_ONCE && i < requests; i++)
        pthread_join(threads[i], NULL);
    empty_table();
}

/* ---- Main ---- */

static long status_kib(const char *field)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            kib = strtol(line + strlen(field), NULL, 10);
    if (file != NULL)
        fclose(file);
    return kib;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int count, char **arguments)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } patterns[] = {{"oneway", oneway}, {"ring", ring},   {"all", all},
                    {"server", server}, {"freer", freer}, {"sharing", sharing},
                    {"batch", batch},   {"many", many},   {"spawn", spawn}};
    if (count > 2)
        percent = strtoul(arguments[2], NULL, 10);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns && count > 1; i++) {
        if (strcmp(arguments[1], patterns[i].name) != 0)
            continue;
        double begin = now();
        patterns[i].run();
        double seconds = now() - begin;
        printf("%.0f %ld %ld %016llx\n", (double)operations / seconds, status_kib("VmHWM:"),
               status_kib("VmRSS:"), (unsigned long long)checksum);
        return 0;
    }
    fprintf(stderr, "usage: %s PATTERN [PERCENT]; see the top of threads.c\n", arguments[0]);
    return 2;
}
