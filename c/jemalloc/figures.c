/* figures.c: counts what mallctl tells about memory, by valloc_get_stats and valloc_stats_classes.
 *
 * A count takes time in proportion to the heap, and programs read figure by figure, class by class.
 * So a count is kept until the next refresh: one of all arenas, and one of the arena that was asked
 * for last. A mutex guards both. */
#include "figures.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "arenas.h"
#include "valloc_jemalloc.h"

#define CLASSES_MAX 128
#define SLOT_MAX (VALLOC_BLOCK_BYTES / 2)
#define RUN_MAX ((size_t)1 << 20)

typedef struct Count {
    uint64_t epoch; /* of the refresh that it belongs to; 0: none */
    size_t arena;
    Figures figures;
    ClassFigures classes[CLASSES_MAX];
} Count;

/* All of them under the mutex. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t epoch = 1;
static Count counts[2];

/* ---- Size classes ---- */

static size_t class_bytes[CLASSES_MAX]; /* written once */
static size_t slots, classes;

static void list_classes(void)
{
    for (size_t bytes = valloc_good_size(1); bytes <= RUN_MAX && classes < CLASSES_MAX;
         bytes = valloc_good_size(bytes + 1)) {
        class_bytes[classes++] = bytes;
        slots += bytes <= SLOT_MAX;
    }
}

static void know_classes(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, list_classes);
}

size_t va_jemalloc_figures_class_bytes(size_t class)
{
    know_classes();
    return class < classes ? class_bytes[class] : 0;
}

size_t va_jemalloc_figures_slots(void)
{
    know_classes();
    return slots;
}

size_t va_jemalloc_figures_classes(void)
{
    know_classes();
    return classes;
}

/* ---- Counting ---- */

static int count_class(const valloc_class_stats *row, void *context)
{
    Count *count = context;
    for (size_t class = 0; class < classes; class ++)
        if (class_bytes[class] == row->slot_size)
            count->classes[class] = (ClassFigures){row->live + row->cached, row->blocks};
    if (row->slot_size != 0 && row->slot_size <= SLOT_MAX)
        count->figures.small += row->live_bytes;
    else
        count->figures.large += row->live_bytes;
    return 0;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Pages inside used slabs may have returned to the kernel: they are not active. */
static void set_pages(Figures *figures, size_t lent, size_t dirty, size_t resident)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t allocated = (figures->allocated + page - 1) & ~(page - 1);
    figures->active = larger(allocated, smaller(lent, resident)) & ~(page - 1);
    figures->dirty = dirty;
    figures->mapped = figures->active + dirty;
    figures->resident = larger(figures->active, resident);
}

static void count_all(Figures *figures)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    set_pages(figures, stats.lent, stats.dirty, stats.resident);
    figures->metadata = stats.metadata;
    figures->retained = stats.reserved - smaller(stats.reserved, figures->mapped);
    figures->purged = stats.purged;
    figures->cached = stats.cached;
    figures->threads = stats.threads;
}

static void count_one(Figures *figures, const MemoryAllocator *allocator)
{
    size_t used = allocator->used_blocks;
    size_t total = larger(allocator->total_blocks, used);
    set_pages(figures, used * VALLOC_BLOCK_BYTES, (total - used) * VALLOC_BLOCK_BYTES,
              total * VALLOC_BLOCK_BYTES);
}

/* NULL: there is no such arena. */
static const Count *count_locked(size_t arena)
{
    bool all = arena == MALLCTL_ARENAS_ALL;
    const MemoryAllocator *allocator = all ? NULL : va_jemalloc_arenas_find(arena);
    if (!all && allocator == NULL)
        return NULL;
    Count *count = &counts[all ? 0 : 1];
    if (count->epoch == epoch && count->arena == arena)
        return count;
    know_classes();
    *count = (Count){.epoch = epoch, .arena = arena};
    valloc_stats_classes(allocator, count_class, count);
    count->figures.allocated = count->figures.small + count->figures.large;
    if (all)
        count_all(&count->figures);
    else
        count_one(&count->figures, allocator);
    return count;
}

/* ---- What mallctl.c asks for ---- */

uint64_t va_jemalloc_figures_refresh(void)
{
    pthread_mutex_lock(&mutex);
    uint64_t now = ++epoch;
    pthread_mutex_unlock(&mutex);
    return now;
}

uint64_t va_jemalloc_figures_epoch(void)
{
    pthread_mutex_lock(&mutex);
    uint64_t now = epoch;
    pthread_mutex_unlock(&mutex);
    return now;
}

int va_jemalloc_figures_arena(size_t arena, Figures *figures)
{
    pthread_mutex_lock(&mutex);
    const Count *count = count_locked(arena);
    if (count != NULL)
        *figures = count->figures;
    pthread_mutex_unlock(&mutex);
    return count == NULL ? ENOENT : 0;
}

int va_jemalloc_figures_class(size_t arena, size_t class, ClassFigures *figures)
{
    pthread_mutex_lock(&mutex);
    const Count *count = count_locked(arena);
    if (count != NULL)
        *figures = count->classes[class];
    pthread_mutex_unlock(&mutex);
    return count == NULL ? ENOENT : 0;
}

/* ---- fork: the child finds the counts whole ---- */

static void before_fork(void)
{
    pthread_mutex_lock(&mutex);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&mutex);
}

__attribute__((constructor)) static void register_handlers(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}
