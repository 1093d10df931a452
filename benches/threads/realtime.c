/* realtime.c PATTERN THREADS OPERATIONS: how long the slowest calls of malloc and free take, for
 * any allocator that is preloaded: what a real-time thread has to reckon with. Each thread replaces
 * blocks of mixed sizes at random, in a table that all share: with two threads half of all blocks
 * are freed by the other. Every call is timed; what the program itself does with its blocks is not.
 *
 *   small   20,000 blocks
 *   large   200,000 blocks
 *   waves   200,000 blocks, of which a thread frees half, now and then, in one go
 *
 * Under SCHED_FIFO (chrt -f 50) nothing but interrupts and, on a virtual machine, its host come
 * between. The kernel stops real-time threads that use 95 % of a processor: so these rest for a
 * tenth of the time.
 *
 * Prints nanoseconds: of the slowest call, of the tenth, hundredth and thousandth slowest; and what
 * the slowest one was: malloc or free, of how many bytes, after how many of all operations. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PLACES_MAX 200000
#define WAVE 400000 /* operations of a thread from one to the next */
#define THREADS_MAX 64
#define SLOWEST 1000
#define WORK_NS 2000000
#define REST_NS 300000

typedef struct Call {
    uint64_t ns, number;
    size_t bytes; /* of a free: 0 */
} Call;

typedef struct Worker {
    pthread_t thread;
    uint64_t state, operations;
    size_t count;
    Call slowest[SLOWEST]; /* a heap: the fastest of them first */
} Worker;

static _Atomic(char *) places[PLACES_MAX];
static size_t place_count;
static int waves;
static Worker workers[THREADS_MAX];
static pthread_barrier_t together;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint32_t next_random(Worker *worker)
{
    worker->state = worker->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(worker->state >> 33);
}

/* Most are small; one of 16 has up to 16 KiB, one of 256 up to 256 KiB, one of 8192 up to 4 MiB. */
static size_t random_size(Worker *worker)
{
    uint32_t r = next_random(worker);
    unsigned bits = r % 8192 == 0 ? 22 : r % 256 == 0 ? 18 : r % 16 == 0 ? 14 : 9;
    return 1 + next_random(worker) % ((size_t)1 << (4 + next_random(worker) % (bits - 3)));
}

static void sift(Worker *worker, size_t place, Call call)
{
    Call *heap = worker->slowest;
    for (size_t child; (child = 2 * place + 1) < worker->count; place = child) {
        child += child + 1 < worker->count && heap[child + 1].ns < heap[child].ns;
        if (heap[child].ns >= call.ns)
            break;
        heap[place] = heap[child];
    }
    heap[place] = call;
}

static void keep(Worker *worker, Call call)
{
    if (worker->count == SLOWEST) {
        if (call.ns > worker->slowest[0].ns)
            sift(worker, 0, call);
        return;
    }
    size_t place = worker->count++;
    for (; place != 0 && worker->slowest[(place - 1) / 2].ns > call.ns; place = (place - 1) / 2)
        worker->slowest[place] = worker->slowest[(place - 1) / 2];
    worker->slowest[place] = call;
}

static void replace(Worker *worker, _Atomic(char *) *place, char *block, uint64_t number)
{
    char *old = atomic_exchange(place, block);
    if (old == NULL)
        return;
    uint64_t start = now_ns();
    free(old);
    keep(worker, (Call){now_ns() - start, number, 0});
}

static void allocate(Worker *worker, uint64_t number)
{
    size_t bytes = random_size(worker);
    uint64_t start = now_ns();
    char *block = malloc(bytes);
    uint64_t end = now_ns();
    if (block == NULL)
        abort();
    keep(worker, (Call){end - start, number, bytes});
    memset(block, 1, bytes < 4096 ? bytes : 4096);
    block[bytes - 1] = 1;
    replace(worker, &places[next_random(worker) % place_count], block, number + 1);
}

static void rest_if_due(uint64_t *began)
{
    const struct timespec rest = {0, REST_NS};
    if (now_ns() - *began < WORK_NS)
        return;
    nanosleep(&rest, NULL);
    *began = now_ns();
}

static void *work(void *argument)
{
    Worker *worker = argument;
    pthread_barrier_wait(&together);
    uint64_t began = now_ns();
    for (uint64_t i = 0; i < worker->operations; i += 2) {
        allocate(worker, i);
        rest_if_due(&began);
        if (!waves || (i + 2) % WAVE != 0)
            continue;
        for (size_t k = next_random(worker) % 2; k < place_count; k += 2, i++) {
            replace(worker, &places[k], NULL, i);
            rest_if_due(&began);
        }
    }
    return NULL;
}

static int by_time(const void *a, const void *b)
{
    const Call *x = a, *y = b;
    return (x->ns < y->ns) - (x->ns > y->ns);
}

int main(int argc, char **argv)
{
    static Call all[THREADS_MAX * SLOWEST];
    size_t threads = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    uint64_t operations = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
    size_t count = 0;
    if (threads == 0 || threads > THREADS_MAX || operations < 2 * SLOWEST * threads)
        return 2;
    place_count = strcmp(argv[1], "small") == 0 ? PLACES_MAX / 10 : PLACES_MAX;
    waves = strcmp(argv[1], "waves") == 0;
    memset(workers, 0, sizeof workers); /* no page of the program's own is new later on */
    memset(all, 1, sizeof all);
    pthread_barrier_init(&together, NULL, (unsigned)threads);
    for (size_t i = 0; i < threads; i++) {
        workers[i].state = i + 1;
        workers[i].operations = operations / threads;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            return 1;
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        memcpy(all + count, workers[i].slowest, workers[i].count * sizeof *all);
        count += workers[i].count;
    }
    qsort(all, count, sizeof *all, by_time);
    printf("%lu %lu %lu %lu %s %zu %lu\n", all[0].ns, all[9].ns, all[99].ns, all[999].ns,
           all[0].bytes != 0 ? "malloc" : "free", all[0].bytes, all[0].number);
    if (getenv("REALTIME_SHOW") != NULL)
        for (size_t i = 0; i < 30; i++)
            fprintf(stderr, "%8lu ns %s %zu, operation %lu\n", all[i].ns,
                    all[i].bytes != 0 ? "malloc" : "free", all[i].bytes, all[i].number);
    return 0;
}
