/* override.c: malloc and its family by their own names, for LD_PRELOAD and for linking.
 *
 * Where POSIX and C leave a choice, what programs written for glibc expect: realloc(p, 0) frees,
 * memalign accepts any alignment, valloc keeps libc's promise of page alignment. malloc and free
 * are the inline fast paths and nothing else. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/fast.h"
#include "base/check.h"
#include "os/os.h"
#include "report/stats.h"

#define VALLOC_NO_SHORT_NAMES
#include "../../include/valloc.h"

#define EXPORT __attribute__((visibility("default")))
#if defined(__has_attribute) && __has_attribute(copy)
#define ALIAS_SEEN(name, seen) __attribute__((visibility(seen), alias(#name), copy(name)))
#else
#define ALIAS_SEEN(name, seen) __attribute__((visibility(seen), alias(#name)))
#endif
#define ALIAS(name) ALIAS_SEEN(name, "default")

EXPORT void *malloc(size_t size)
{
    return va_api_malloc(size);
}

EXPORT void free(void *ptr)
{
    va_api_free(ptr);
}

EXPORT void cfree(void *ptr)
{
    va_api_free(ptr);
}

/* A program with a malloc of its own may lack what C23 added: the process's free then gets the
 * block (cmake/replaceable.list). reallocarray and strdup are libc's: they call the process's
 * realloc. */
ALIAS_SEEN(malloc, "hidden") void *va_own_malloc(size_t size);
ALIAS_SEEN(free, "hidden") void va_own_free(void *ptr);

static bool free_is_own(void)
{
    void (*function)(void *) = free;
    VA_FORGET(function); /* the compiler may not know that others replace it */
    return function == va_own_free;
}

EXPORT void free_sized(void *ptr, size_t size)
{
    if (free_is_own())
        valloc_free_sized(ptr, size);
    else
        free(ptr);
}

EXPORT void free_aligned_sized(void *ptr, size_t alignment, size_t size)
{
    if (free_is_own())
        valloc_free_aligned_sized(ptr, alignment, size);
    else
        free(ptr);
}

EXPORT void *calloc(size_t count, size_t size)
{
    return valloc_calloc(count, size);
}

EXPORT void *realloc(void *ptr, size_t size)
{
    if (va_unlikely(size == 0 && ptr != NULL)) {
        va_api_free(ptr);
        return NULL;
    }
    return valloc_realloc(ptr, size);
}

/* The next power of two, as glibc's memalign takes any alignment; 0 if there is none. */
static size_t round_alignment(size_t alignment)
{
    size_t rounded = VA_MIN_ALIGN;
    while (rounded != 0 && rounded < alignment)
        rounded <<= 1;
    return rounded;
}

EXPORT VA_COLD void *memalign(size_t alignment, size_t size)
{
    return valloc_aligned_alloc(round_alignment(alignment), size);
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    return valloc_aligned_alloc(alignment, size);
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t size)
{
    return valloc_posix_memalign(out, alignment, size);
}

EXPORT VA_COLD void *valloc(size_t size)
{
    return valloc_aligned_alloc(va_os_page_bytes(), size);
}

EXPORT VA_COLD void *pvalloc(size_t size)
{
    size_t page = va_os_page_bytes();
    if (size > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    return valloc_aligned_alloc(page, va_align_up(va_max(size, 1), page));
}

EXPORT size_t malloc_usable_size(void *ptr)
{
    return valloc_usable_size(ptr);
}

/* ---- Control and statistics ---- */

EXPORT VA_COLD int malloc_trim(size_t pad)
{
    (void)pad;
    return valloc_purge() != 0;
}

/* 1, success, for the parameters that tune glibc's speed and memory, and mean nothing here:
 * programs go on. 0 for what would have a visible effect (M_PERTURB fills blocks), and for what is
 * unknown. */
EXPORT VA_COLD int mallopt(int parameter, int value)
{
    enum { LEAST = -8, PERTURB = -6, MOST = 4 }; /* M_ARENA_MAX, M_PERTURB, M_KEEP */
    (void)value;
    return parameter >= LEAST && parameter <= MOST && parameter != PERTURB && parameter != 0;
}

#if defined(__GLIBC__)

#if !__GLIBC_PREREQ(2, 33) /* which has only mallinfo */
struct mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct mallinfo2 mallinfo2(void);
#endif

/* Blocks that glibc would map one by one, from 128 KiB on, are counted apart as it does. A free
 * block is a free slot, wherever it is kept. */
EXPORT VA_COLD struct mallinfo2 mallinfo2(void)
{
    Census census;
    valloc_stats stats;
    struct mallinfo2 info = {0};
    va_stats_count(&census, NULL);
    va_stats_collect(&stats, &census);
    for (unsigned class = 0; class <= VA_CLASSES; class ++) {
        const valloc_class_stats *row = &census.rows[class];
        info.ordblks += row->free_slots + row->cached;
        if (class == VA_CLASSES || row->slot_size >= 128 * VA_KIB) {
            info.hblks += row->live;
            info.hblkhd += row->live_bytes;
        }
    }
    info.arena = stats.committed - info.hblkhd;
    info.uordblks = stats.live - info.hblkhd;
    info.fsmblks = stats.cached;
    info.fordblks = info.arena - info.uordblks;
    info.keepcost = stats.dirty;
    return info;
}

static int clamp_to_int(size_t value)
{
    return value > INT_MAX ? INT_MAX : (int)value;
}

EXPORT VA_COLD struct mallinfo mallinfo(void)
{
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo info = {0};
    info.arena = clamp_to_int(wide.arena);
    info.ordblks = clamp_to_int(wide.ordblks);
    info.hblks = clamp_to_int(wide.hblks);
    info.hblkhd = clamp_to_int(wide.hblkhd);
    info.fsmblks = clamp_to_int(wide.fsmblks);
    info.uordblks = clamp_to_int(wide.uordblks);
    info.fordblks = clamp_to_int(wide.fordblks);
    info.keepcost = clamp_to_int(wide.keepcost);
    return info;
}

#endif

EXPORT VA_COLD int malloc_info(int options, FILE *stream)
{
    valloc_stats stats;
    if (options != 0) {
        errno = EINVAL;
        return -1;
    }
    valloc_get_stats(&stats);
    int written = fprintf(stream,
                          "<malloc version=\"valloc-%d.%d.%d\">\n"
                          "<system type=\"reserved\" size=\"%zu\"/>\n"
                          "<system type=\"current\" size=\"%zu\"/>\n"
                          "<total type=\"resident\" size=\"%zu\"/>\n"
                          "<total type=\"lent\" size=\"%zu\"/>\n"
                          "<total type=\"live\" size=\"%zu\"/>\n"
                          "<total type=\"cached\" size=\"%zu\"/>\n"
                          "<total type=\"dirty\" size=\"%zu\"/>\n"
                          "<total type=\"metadata\" size=\"%zu\"/>\n"
                          "<total type=\"threads\" count=\"%zu\"/>\n"
                          "</malloc>\n",
                          VALLOC_VERSION_MAJOR, VALLOC_VERSION_MINOR, VALLOC_VERSION_PATCH,
                          stats.reserved, stats.committed, stats.resident, stats.lent, stats.live,
                          stats.cached, stats.dirty, stats.metadata, stats.threads);
    return written < 0 ? -1 : 0;
}

EXPORT VA_COLD void malloc_stats(void)
{
    valloc_stats_print(VALLOC_STATS_TEXT, NULL, NULL);
}

/* ---- glibc's inner names, which some programs call ---- */

ALIAS(malloc) void *__libc_malloc(size_t size);
ALIAS(calloc) void *__libc_calloc(size_t count, size_t size);
ALIAS(realloc) void *__libc_realloc(void *ptr, size_t size);
ALIAS(free) void __libc_free(void *ptr);
ALIAS(memalign) void *__libc_memalign(size_t alignment, size_t size);
ALIAS(valloc) void *__libc_valloc(size_t size);
ALIAS(pvalloc) void *__libc_pvalloc(size_t size);
ALIAS(posix_memalign) int __posix_memalign(void **out, size_t alignment, size_t size);

/* ---- Libraries loaded later ---- */

#ifdef RTLD_DEEPBIND
/* RTLD_DEEPBIND would bind a library to libc's malloc, whose memory then meets valloc's free: the
 * flag is dropped. libc searches the paths of the library that calls it: its dlopen is jumped to,
 * so that it returns to this function's caller. That takes a compiler that optimises. */
EXPORT void *dlopen(const char *file, int mode)
{
    static void *_Atomic found;
    void *next = atomic_load_explicit(&found, memory_order_relaxed);
    if (va_unlikely(next == NULL)) {
        next = dlsym(RTLD_NEXT, "dlopen");
        if (next == NULL)
            return NULL;
        atomic_store_explicit(&found, next, memory_order_relaxed); /* the same whoever looks */
    }
    return ((void *(*)(const char *, int))next)(file, mode & ~RTLD_DEEPBIND);
}
#endif

/* ---- fork ---- */

#ifdef __GLIBC__
/* What pthread_atfork calls in glibc. Handlers that are registered later run earlier before the
 * fork and later after it. valloc's come first, before those of any library's constructor: the
 * others may then wait for threads that allocate. Weak: static programs have libc's own. */
EXPORT __attribute__((weak)) int __register_atfork(void (*prepare)(void), void (*parent)(void),
                                                   void (*child)(void), void *library)
{
    static void *_Atomic found;
    void *next = atomic_load_explicit(&found, memory_order_relaxed);
    va_fork_register();
    if (next == NULL) {
        next = dlsym(RTLD_NEXT, "__register_atfork");
        if (next == NULL)
            return ENOMEM;
        atomic_store_explicit(&found, next, memory_order_relaxed); /* the same whoever looks */
    }
    return ((int (*)(void (*)(void), void (*)(void), void (*)(void), void *))next)(prepare, parent,
                                                                                   child, library);
}
#endif
