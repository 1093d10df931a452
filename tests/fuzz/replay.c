/* replay.c: the main function of a fuzzer where there is no libFuzzer.
 *
 *   fuzz_NAME                      one input from stdin, as AFL gives it
 *   fuzz_NAME PATH...              the inputs in these files and folders
 *   fuzz_NAME -runs=N PATH...      then N more: mutations of these and bytes at random, the same
 *                                  ones in every run of the program */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

#define INPUT_BYTES_MAX ((size_t)1 << 16)
#define INPUTS_MAX 4096

typedef struct Bytes {
    uint8_t *data;
    size_t size;
} Bytes;

static Bytes inputs[INPUTS_MAX];
static size_t input_count;

static Bytes read_all(FILE *file)
{
    Bytes bytes = {malloc(INPUT_BYTES_MAX), 0};
    demand(file != NULL && bytes.data != NULL);
    bytes.size = fread(bytes.data, 1, INPUT_BYTES_MAX, file);
    return bytes;
}

static void run_path(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0) {
        perror(path);
        exit(2);
    }
    if (S_ISDIR(status.st_mode)) {
        DIR *folder = opendir(path);
        demand(folder != NULL);
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            char inner[4096];
            snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
            if (entry->d_name[0] != '.')
                run_path(inner);
        }
        closedir(folder);
        return;
    }
    FILE *file = fopen(path, "rb");
    Bytes bytes = read_all(file);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes.data, bytes.size);
    if (input_count < INPUTS_MAX)
        inputs[input_count++] = bytes;
    else
        free(bytes.data);
}

static uint64_t random_next(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* An input of up to 2 KiB: one that was read, or none, with pieces of another, some bytes changed,
 * and an end at random. */
static size_t mutate(uint8_t *data, size_t room)
{
    size_t size = 1 + (size_t)(random_next() % room);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(random_next() >> 32);
    for (int piece = 0; input_count != 0 && piece < 3; piece++) {
        const Bytes *source = &inputs[random_next() % input_count];
        size_t at = (size_t)random_next() % size;
        size_t from = source->size == 0 ? 0 : (size_t)random_next() % source->size;
        size_t length = source->size - from < size - at ? source->size - from : size - at;
        if (random_next() % 4 != 0)
            memcpy(data + at, source->data + from, length);
    }
    for (uint64_t changes = random_next() % 8; changes > 0; changes--)
        data[random_next() % size] ^= (uint8_t)(1u << random_next() % 8);
    return size;
}

int main(int argc, char **argv)
{
    long runs = 0;
    int paths = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-runs=", 6) == 0) {
            runs = strtol(argv[i] + 6, NULL, 10);
        } else {
            run_path(argv[i]);
            paths++;
        }
    }
    if (paths == 0 && runs == 0) {
        Bytes bytes = read_all(stdin);
        LLVMFuzzerTestOneInput(bytes.data, bytes.size);
        free(bytes.data);
    }
    for (long run = 0; run < runs; run++) {
        uint8_t data[2048];
        LLVMFuzzerTestOneInput(data, mutate(data, sizeof data));
    }
    printf("%zu inputs replayed, %ld made\n", input_count, runs);
    while (input_count > 0)
        free(inputs[--input_count].data);
    return 0;
}
