/* crimes.h: what all crimes of the misuse suite share.
 *
 * A crime does one wrong thing to memory and then goes on like a program that does not know of it.
 * It looks for consequences and returns what it saw. table.h lists all crimes, with what becomes of
 * each on valloc; test_misuse.c holds valloc to that; crimes.c commits one on whichever malloc the
 * process has, for compare.py. */
#ifndef CRIMES_H
#define CRIMES_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "subject.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* What becomes of a crime; its letter in table.h; the exit status of its process. */
typedef enum Outcome {
    UNHARMED = 'H',  /* the process goes on, and nothing bad was seen */
    UNNOTICED = 'U', /* it goes on. Memory had two owners, an innocent block's contents changed, or
                        what was not the program's could be read */
    REPORTED = 'R',  /* stopped with a message, by the wrong call */
    LATER = 'L',     /* stopped with a message, by a later call */
    FAULT = 'F',     /* stopped by the hardware, at the wrong access */
    CRASH = 'C',     /* the process dies in another way */
    EITHER = 'E',    /* in the table: unharmed or reported later, by chance */
    ABSENT = '-', /* the allocator lacks the function, or the crime does not exist at this size */
} Outcome;

/* The sizes at which crimes are committed: slots, runs, and one above. */
static const size_t sizes[] = {16,       48,       256,       1 * KIB, 16 * KIB,
                               28 * KIB, 64 * KIB, 256 * KIB, 1 * MIB, 8 * MIB};
#define SIZES (sizeof sizes / sizeof *sizes)
#define ANY_SIZE 1 /* of crimes without a size */

typedef struct Crime Crime;
struct Crime {
    const char *name;
    const char *what;
    Outcome (*commit)(const Crime *crime, size_t size);
    int how; /* of the function's own kinds */
    int count;
    int at;
    const char *message; /* after "valloc: ", if it is reported */
    /* A letter for each size, or one letter: the size does not matter. */
    const char *release;
    const char *debug;
    const char *secure;
};

/* ---- Signals ---- */

static volatile sig_atomic_t committed; /* the wrong call or access is over */
static volatile sig_atomic_t accessing;

static void end(int number)
{
    if (number != SIGSEGV && number != SIGBUS)
        _exit(committed ? LATER : REPORTED);
    _exit(accessing && !committed ? FAULT : CRASH);
}

/* In the process that commits it. */
static Outcome commit_crime(const Crime *crime, size_t size)
{
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGTRAP};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        signal(numbers[i], end);
    return crime->commit(crime, size);
}

/* ---- Blocks ---- */

/* Keeps the compiler from seeing what happens to a pointer. */
static void *hide(const void *pointer)
{
    void *volatile hidden = (void *)(uintptr_t)pointer;
    return hidden;
}

/* What was freed goes on its way from the thread's cache. */
static void flush(void)
{
#ifdef TEST_API
    valloc_purge();
#else
    malloc_trim(0);
#endif
}

static void *get(size_t size)
{
    void *block = hide(subject_malloc(size));
    if (block == NULL)
        _exit(2);
    return block;
}

static void release(void *block)
{
    subject_free(hide(block));
}

static void release_wrongly(void *block)
{
    release(block);
    committed = 1;
}

static void in_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, argument) != 0)
        _exit(2);
    pthread_join(thread, NULL);
}

/* So many blocks, or fewer if they are large. */
static int at_most(int count, size_t size)
{
    int fit = (int)(256 * MIB / size);
    return count < fit ? count : fit;
}

/* Its slab stays in use, whatever the program did before. */
static void keep_company(size_t size)
{
    for (int i = at_most(4, size); i > 0; i--)
        get(size);
}

/* Asks for blocks of a size until two of them, or one and the block given, lie on each other; in
 * the middle what is free goes its way. */
static Outcome look_for_overlap(size_t size, const char *block)
{
    enum { TRIES = 2000 };
    static char *blocks[TRIES];
    int count = at_most(size > 64 * KIB ? 40 : TRIES, size);
    for (int i = 0; i < count; i++) {
        if (i == count / 2)
            flush();
        blocks[i] = get(size);
        if (block != NULL && blocks[i] < block + size && block < blocks[i] + size)
            return UNNOTICED;
        for (int k = i - 1; k >= 0 && k > i - 700; k--)
            if (blocks[k] < blocks[i] + size && blocks[i] < blocks[k] + size)
                return UNNOTICED;
    }
    flush();
    return UNHARMED;
}

/* What goes on afterwards: other allocations, or a purge alone. */
static Outcome go_on(bool reuses, size_t size, const char *block)
{
    if (reuses)
        return look_for_overlap(size, block);
    flush();
    return UNHARMED;
}

#endif
