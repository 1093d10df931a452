/* support.h: what the C tests share: cmocka with its headers, a random number generator, blocks
 * that know what they are filled with, readings of the process's own memory. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

/* An assertion for threads and child processes, where cmocka cannot report. */
#define require(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* What a slot holds beyond the bytes asked for in builds that a tool watches. */
#if defined(VALLOC_VALGRIND) || defined(__SANITIZE_ADDRESS__)
#define WATCHED_BYTES 16
#else
#define WATCHED_BYTES 0
#endif

/* A secure build keeps a canary at the end of each block, a guard page at that of a run, and
 * clears what is freed; large blocks give their pages back. */
#if defined(VALLOC_SECURE) && VALLOC_SECURE
#define SECURED 1
#define SECURED_BYTES 8
#define SECURED_LARGE_BYTES ((size_t)4096)
#else
#define SECURED 0
#define SECURED_BYTES 0
#define SECURED_LARGE_BYTES ((size_t)0)
#endif

/* The bytes of a slot or run of which so many are usable. */
static inline size_t whole_bytes(size_t usable)
{
    return usable + SECURED_BYTES + (usable >= (size_t)32 << 10 ? SECURED_LARGE_BYTES : 0);
}

/* xorshift64: repeatable for a seed other than 0. */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Bytes [0, n) of a block hold a value; of large blocks only both ends are looked at. */
#define FILL_EDGE 2048

static inline void fill_bytes(void *block, size_t size, unsigned char value)
{
    unsigned char *bytes = block;
    if (size <= 2 * FILL_EDGE) {
        memset(bytes, value, size);
    } else {
        memset(bytes, value, FILL_EDGE);
        memset(bytes + size - FILL_EDGE, value, FILL_EDGE);
    }
}

static inline int bytes_hold(const void *block, size_t size, unsigned char value)
{
    const unsigned char *bytes = block;
    size_t edge = size <= 2 * FILL_EDGE ? size : FILL_EDGE;
    for (size_t i = 0; i < edge; i++)
        if (bytes[i] != value || bytes[size - 1 - i] != value)
            return 0;
    return 1;
}

/* A line of /proc/self/status in KiB, such as "VmRSS:"; -1 if it is not there. */
static inline long status_kib(const char *name)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/status", "r");
    if (file == NULL)
        return -1;
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtol(line + strlen(name), NULL, 10);
    fclose(file);
    return kib;
}

/* Resident memory in KiB. Where a sanitizer's shadow is part of it, it tells nothing: always 0. */
static inline long resident_now_kib(void)
{
#ifdef SANITIZED
    return 0;
#else
    return status_kib("VmRSS:");
#endif
}

#endif
