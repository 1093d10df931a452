/* model.h: what the fuzzers of the API know of every block that is live: where it is, how large,
 * and what it holds.
 *
 * Blocks are written to as far as valloc says that they are usable: all of a small one, of a large
 * one both ends and a few bytes of every block of the arena. The byte written depends on its place.
 *
 * Operations run on one of three threads, one at a time, so that an input always does the same: an
 * operation can name the thread that goes on. Worker threads can exit and start anew in between. */
#ifndef MODEL_H
#define MODEL_H

#include "fuzz.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

#define HELD_MAX 200
#define HELD_BYTES_MAX ((size_t)128 << 20)
#define THREADS 3
/* errno before an operation: it keeps it unless it fails. */
#define NO_ERROR 12345

/* How a block may be freed with its size. */
typedef enum Kind { KIND_PLAIN, KIND_ALIGNED } Kind;

typedef struct Held {
    unsigned char *ptr;
    size_t size; /* as asked for */
    size_t usable;
    size_t alignment; /* as asked for; 16 if nothing was */
    Kind kind;
    MemoryAllocator *allocator;
    unsigned char fill;
} Held;

static Held held[HELD_MAX];
static size_t held_count;
static size_t held_bytes;
static Input *input;

/* ---- Contents ---- */

static unsigned char byte_at(const Held *block, size_t offset)
{
    return (unsigned char)(block->fill + offset + (offset >> 12) * 7);
}

/* The next offset that is looked at. */
static size_t next_offset(size_t offset, size_t size)
{
    const size_t edge = 512;
    const size_t step = VALLOC_BLOCK_BYTES / 4;
    if (offset + 1 < edge || offset + 1 + edge >= size)
        return offset + 1;
    size_t next = (offset / step + 1) * step;
    return next < size - edge ? next : size - edge;
}

static void fill(Held *block)
{
    block->fill = (unsigned char)(block->fill + 37);
    for (size_t i = 0; i < block->usable; i = next_offset(i, block->usable))
        block->ptr[i] = byte_at(block, i);
}

/* The first `size` bytes at ptr are what was written to a block. */
static void check_contents(const Held *block, const unsigned char *ptr, size_t size)
{
    for (size_t i = 0; i < block->usable && i < size; i = next_offset(i, block->usable))
        demand(ptr[i] == byte_at(block, i));
}

static void check_zero(const unsigned char *ptr, size_t size)
{
    if (size <= VALLOC_BLOCK_BYTES) {
        for (size_t i = 0; i < size; i++)
            demand(ptr[i] == 0);
    } else {
        for (size_t i = 0; i < size; i = next_offset(i, size))
            demand(ptr[i] == 0);
    }
}

/* ---- Requests ---- */

/* Sizes that can be had, of every kind; small ones most often. */
static size_t take_size(void)
{
    uint8_t kind = take_byte(input);
    switch (kind % 16) {
    case 8:
    case 9:
        return take_short(input) % 40000;
    case 10:
        return (size_t)take_short(input) * 17; /* to 1.06 MiB: runs */
    case 11:
        return ((size_t)1 << (4 + take_byte(input) % 18)) + kind / 16 -
               8; /* around powers of two */
    case 12:
        return (size_t)take_short(input) * 257; /* to 16 MiB */
    case 13:
        return ((size_t)1 << (20 + take_byte(input) % 6)) + kind / 16 - 8; /* to 32 MiB */
    default:
        return (size_t)take_byte(input) * (1u + kind / 64);
    }
}

static size_t take_impossible_size(void)
{
    uint8_t kind = take_byte(input);
    switch (kind % 4) {
    case 0:
        return SIZE_MAX - kind / 4;
    case 1:
        return (size_t)PTRDIFF_MAX - 30 + kind / 4;
    case 2:
        return ((size_t)1 << 47) + kind;
    default:
        return (size_t)take_word(input) | (size_t)1 << 63;
    }
}

static size_t take_alignment(void)
{
    uint8_t kind = take_byte(input);
    return (size_t)1 << (kind < 200 ? kind % 13 : kind % 25);
}

static size_t take_bad_alignment(void)
{
    static const size_t bad[] = {0, 3, 24, 48, 4095, 4097, ((size_t)1 << 40) + 16, SIZE_MAX};
    return bad[take_byte(input) % 8];
}

/* ---- Blocks ---- */

static bool has_room(size_t bytes)
{
    return held_count < HELD_MAX && held_bytes + bytes <= HELD_BYTES_MAX;
}

/* Enters a block into the model: it is aligned, large enough, and overlaps no other. */
static Held *hold(void *ptr, size_t size, size_t alignment, Kind kind, MemoryAllocator *allocator)
{
    Held block = {.ptr = ptr,
                  .size = size,
                  .usable = valloc_usable_size(ptr),
                  .alignment = alignment,
                  .kind = kind,
                  .allocator = allocator,
                  .fill = (unsigned char)(held_count * 11 + 1)};
    demand((uintptr_t)ptr % (alignment < 16 ? 16 : alignment) == 0);
    demand(block.usable >= size && (block.usable > 0 || size == 0));
    demand(valloc_owner(ptr) == allocator);
    for (size_t i = 0; i < held_count; i++)
        demand(held[i].ptr + held[i].usable <= block.ptr ||
               block.ptr + block.usable <= held[i].ptr);
    fill(&block);
    held_bytes += block.usable;
    held[held_count] = block;
    return &held[held_count++];
}

/* A block leaves the model. */
static void forget(size_t index)
{
    held_bytes -= held[index].usable;
    held[index] = held[--held_count];
}

static void check_all(void)
{
    for (size_t i = 0; i < held_count; i++)
        check_contents(&held[i], held[i].ptr, held[i].usable);
}

/* ---- Threads ---- */

typedef struct Worker {
    pthread_t thread;
    sem_t start, done;
    void (*work)(void);
    bool alive;
} Worker;

static Worker workers[THREADS]; /* the first is the calling thread */
static size_t next_thread;
static bool has_exited; /* a worker: what it freed last is kept for the next thread, till a purge */

static void *serve(void *argument)
{
    Worker *worker = argument;
    for (;;) {
        sem_wait(&worker->start);
        if (worker->work == NULL)
            return NULL;
        worker->work();
        sem_post(&worker->done);
    }
}

static void run_on(size_t thread, void (*work)(void))
{
    Worker *worker = &workers[thread];
    if (thread == 0) {
        work();
        return;
    }
    if (!worker->alive) {
        demand(sem_init(&worker->start, 0, 0) == 0 && sem_init(&worker->done, 0, 0) == 0);
        demand(pthread_create(&worker->thread, NULL, serve, worker) == 0);
        worker->alive = true;
    }
    worker->work = work;
    sem_post(&worker->start);
    while (sem_wait(&worker->done) != 0)
        ;
}

static void stop_worker(size_t thread)
{
    Worker *worker = &workers[thread];
    if (thread == 0 || !worker->alive)
        return;
    worker->work = NULL;
    sem_post(&worker->start);
    demand(pthread_join(worker->thread, NULL) == 0);
    worker->alive = false;
    has_exited = true;
}

/* Runs `operate` until the input is over, each time on the thread that the last one named. It
 * returns when it has named another. */
static void run_input(Input *bytes, void (*operate)(void))
{
    input = bytes;
    next_thread = 0;
    while (!input_is_over(input))
        run_on(next_thread, operate);
}

static void take_thread(void)
{
    uint8_t which = take_byte(input);
    if (which >= 240) /* not the one that runs this */
        stop_worker(which % THREADS == next_thread ? 0 : which % THREADS);
    next_thread = which % THREADS;
}

/* ---- What valloc itself says is live ---- */

static int count_live(const MemoryBlock *block, void *live)
{
    *(size_t *)live += block->live_slots;
    return 0;
}

static size_t live_slots(MemoryAllocator *allocator)
{
    size_t live = 0;
    demand(valloc_blocks(allocator, count_live, &live) == 0);
    return live;
}

#endif
