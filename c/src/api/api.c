/* api.c: the public functions of valloc.h. Besides batch.c and override.c no file sets
 * errno. */
#include "api/fast.h"

#include <errno.h>
#include <string.h>

#define VALLOC_NO_SHORT_NAMES
#include "../../include/valloc.h"
#include "api/defrag.h"
#include "api/sampling.h"
#include "heap/background.h"
#include "report/inspect.h"
#include "report/print.h"
#include "report/stats.h"

/* What leaves a slow path. */
static void *or_no_memory(void *result)
{
    if (va_unlikely(result == NULL))
        errno = ENOMEM;
    return va_memtag_out(result);
}

/* The same of a realloc. */
VA_INLINE void *or_old(void *result, void *ptr)
{
    if (!va_memtag_on)
        return or_no_memory(result);
    if (va_unlikely(result == NULL))
        errno = ENOMEM;
    return va_memtag_resize(result, ptr);
}

static bool multiply(size_t count, size_t size, size_t *product)
{
    return !__builtin_mul_overflow(count, size, product);
}

static bool is_alignment(size_t alignment)
{
    if (va_likely(va_is_power_of_two(alignment)))
        return true;
    errno = EINVAL;
    return false;
}

/* ---- While a heap profile is on ---- */

/* The slow halves jump to these, so that the call stack begins at the program's call. */
static VA_APART void *allocate_sampled(Allocator *allocator, size_t size, size_t alignment,
                                       bool zero)
{
    return or_no_memory(va_sampling_allocate(allocator, size, alignment, zero, VA_STACK_CALLER));
}

static VA_APART void *reallocate_sampled(Allocator *allocator, void *ptr, size_t size,
                                         size_t alignment, const char *function)
{
    return or_old(va_sampling_reallocate(allocator, va_memtag_strip(ptr), size, alignment, function,
                                         VA_STACK_CALLER),
                  ptr);
}

/* ---- The process ---- */

static VA_APART void *malloc_large(size_t size)
{
    void *run = va_allocate_kept(size);
    if (va_likely(run != NULL))
        return va_memtag_out(run);
    if (va_sampling_wants(size))
        return allocate_sampled(&va_process, size, VA_MIN_ALIGN, false);
    return or_no_memory(va_route_allocate(&va_process, size, VA_MIN_ALIGN));
}

static VA_APART void free_large(void *pointer)
{
    if (!va_free_kept(pointer, 0))
        va_route_free(pointer, "free");
}

static VA_NOINLINE void *malloc_slower(size_t size)
{
    if (va_sampling_wants(size))
        return allocate_sampled(&va_process, size, VA_MIN_ALIGN, false);
    return or_no_memory(va_route_allocate(&va_process, size, VA_MIN_ALIGN));
}

static VA_NOINLINE void free_slower(void *pointer)
{
    if (va_is_large_fast(pointer))
        free_large(pointer);
    else
        va_route_free(pointer, "free");
}

VA_NOINLINE void va_api_free_slow(void *pointer)
{
    if (pointer == NULL)
        return;
    if (!va_free_foreign_fast(pointer) &&
        !va_free_away_fast(pointer, 0, (VA_CLASSES_SMALL - 1) << VA_CLASS_SHIFT))
        free_slower(pointer);
}

static VA_APART void free_sized_slow(void *pointer, size_t size)
{
    if (va_free_sized_foreign_fast(pointer, size))
        return;
    if (size <= VA_SMALL_MAX) {
        uint32_t offset = va_small_class_offset(size);
        if (va_free_away_fast(pointer, offset, offset))
            return;
    } else if (va_is_large_fast(pointer) && va_free_kept(pointer, size)) {
        return;
    }
    va_route_free_sized(pointer, size, VA_MIN_ALIGN, "free_sized");
}

VA_NOINLINE void *va_api_malloc_slow(size_t size)
{
    void *slot = va_allocate_run_fast(size);
    if (slot == NULL && size <= VA_SMALL_MAX)
        slot = va_sampling_allocate_fast(size);
    if (va_likely(slot != NULL))
        return va_memtag_out(slot);
    return size > VA_RUN_MAX ? malloc_large(size) : malloc_slower(size);
}

VA_ENTRY void *valloc_malloc(size_t size)
{
    return va_api_malloc(size);
}

static VA_NOINLINE void *calloc_slow(size_t bytes)
{
    if (va_sampling_wants(bytes))
        return allocate_sampled(&va_process, bytes, VA_MIN_ALIGN, true);
    return or_no_memory(va_route_allocate_zeroed(&va_process, bytes, VA_MIN_ALIGN));
}

void *valloc_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (va_unlikely(!multiply(count, size, &bytes)))
        return or_no_memory(NULL);
    void *slot = va_allocate_fast(bytes);
    if (va_likely(slot != NULL))
        return va_memtag_out(memset(slot, 0, bytes));
    return calloc_slow(bytes);
}

static VA_NOINLINE void *realloc_slow(void *ptr, size_t size)
{
    if (ptr == NULL)
        return va_api_malloc(size);
    void *block = va_sampling_reallocate_fast(ptr, size);
    if (block != NULL)
        return block;
    if (va_sampling_wants(size))
        return reallocate_sampled(&va_process, ptr, size, VA_MIN_ALIGN, "realloc");
    return or_old(
        va_route_reallocate(&va_process, va_memtag_strip(ptr), size, VA_MIN_ALIGN, "realloc"), ptr);
}

void *valloc_realloc(void *ptr, size_t size)
{
    void *block = va_reallocate_fast(va_memtag_in(ptr, "realloc"), size);
    return va_likely(block != NULL) ? va_memtag_again(block, ptr) : realloc_slow(ptr, size);
}

VA_COLD void *valloc_reallocarray(void *ptr, size_t count, size_t size)
{
    size_t bytes;
    if (va_unlikely(!multiply(count, size, &bytes)))
        return or_no_memory(NULL);
    return valloc_realloc(ptr, bytes);
}

VA_ENTRY void valloc_free(void *ptr)
{
    va_api_free(ptr);
}

VA_ENTRY void valloc_free_sized(void *ptr, size_t size)
{
    ptr = va_memtag_in(ptr, "free_sized");
    if (va_unlikely(!va_free_sized_fast(ptr, size)))
        free_sized_slow(ptr, size);
}

VA_APART void valloc_free_aligned_sized(void *ptr, size_t alignment, size_t size)
{
    ptr = va_memtag_in(ptr, "free_aligned_sized");
    if (va_unlikely(!va_free_aligned_fast(ptr, size, alignment)))
        va_route_free_sized(ptr, size, alignment, "free_aligned_sized");
}

static VA_NOINLINE void *aligned_alloc_slow(size_t alignment, size_t size)
{
    if (va_sampling_wants(size))
        return allocate_sampled(&va_process, size, alignment, false);
    return or_no_memory(va_route_allocate(&va_process, size, alignment));
}

void *valloc_aligned_alloc(size_t alignment, size_t size)
{
    if (va_unlikely(!is_alignment(alignment)))
        return NULL;
    void *slot = va_allocate_aligned_fast(size, alignment);
    if (va_likely(slot != NULL))
        return va_memtag_out(slot);
    return aligned_alloc_slow(alignment, size);
}

VA_COLD void *valloc_aligned_calloc(size_t alignment, size_t size)
{
    if (va_unlikely(!is_alignment(alignment)))
        return NULL;
    if (va_sampling_wants(size))
        return allocate_sampled(&va_process, size, alignment, true);
    return or_no_memory(va_route_allocate_zeroed(&va_process, size, alignment));
}

VA_COLD void *valloc_aligned_realloc(void *ptr, size_t alignment, size_t size)
{
    if (va_unlikely(!is_alignment(alignment)))
        return NULL;
    void *slot = va_memtag_in(ptr, "aligned_realloc");
    if (va_sampling_wants(size))
        return reallocate_sampled(&va_process, ptr, size, alignment, "aligned_realloc");
    return or_old(va_route_reallocate(&va_process, slot, size, alignment, "aligned_realloc"), ptr);
}

static VA_APART int posix_memalign_slow(void **out, size_t alignment, size_t size)
{
    void *result = va_sampling_wants(size)
                       ? va_sampling_allocate(&va_process, size, alignment, false, VA_STACK_CALLER)
                       : va_route_allocate(&va_process, size, alignment);
    if (va_unlikely(result == NULL))
        return ENOMEM;
    *out = va_memtag_out(result);
    return 0;
}

VA_APART int valloc_posix_memalign(void **out, size_t alignment, size_t size)
{
    if (va_unlikely(!va_is_power_of_two(alignment) || alignment < sizeof(void *)))
        return EINVAL;
    void *result = va_allocate_aligned_fast(size, alignment);
    if (va_unlikely(result == NULL))
        return posix_memalign_slow(out, alignment, size);
    *out = va_memtag_out(result);
    return 0;
}

void *valloc_memalign(size_t alignment, size_t size)
{
    return valloc_aligned_alloc(alignment, size);
}

VA_APART size_t valloc_usable_size(const void *ptr)
{
    ptr = va_memtag_look(ptr, "usable_size");
    size_t bytes = va_usable_size_fast(ptr);
    if (va_likely(bytes != 0))
        return bytes;
    if (!va_memtag_on)
        return va_route_usable_size(ptr, "usable_size");
    uint64_t before = va_memtag_ignore();
    bytes = va_route_usable_size(ptr, "usable_size");
    va_memtag_heed(before);
    return bytes;
}

VA_COLD size_t valloc_good_size(size_t size)
{
    return va_route_good_size(size);
}

valloc_sized_ptr valloc_malloc_at_least(size_t size)
{
    size_t bytes = va_route_good_size(size);
    void *ptr = valloc_malloc(bytes);
    return (valloc_sized_ptr){ptr, ptr == NULL ? 0 : bytes};
}

VA_COLD void *valloc_expand(void *ptr, size_t size)
{
    if (ptr == NULL)
        return NULL;
    void *slot = va_memtag_look(ptr, "expand");
    uint64_t before = va_memtag_ignore();
    bool done = va_sampling_wants(size) ? va_sampling_expand(slot, size, VA_STACK_CALLER)
                                        : va_route_expand(slot, size, "expand");
    va_memtag_heed(before);
    if (done)
        va_memtag_restore(ptr);
    return done ? ptr : NULL;
}

VA_COLD size_t valloc_purge(void)
{
    return va_route_purge();
}

VA_COLD int valloc_defrag_hint(const void *ptr)
{
    return va_defrag_hint(va_memtag_strip(ptr));
}

VA_COLD void valloc_set_error_handler(void (*handler)(const char *, void *), void *context)
{
    va_report_to(handler, context);
}

VA_COLD int valloc_background_purge(int on)
{
    va_background_set(on != 0);
    return 0;
}

VA_COLD void valloc_set_purge_delay(size_t milliseconds)
{
    va_background_set_delay(milliseconds);
}

VA_COLD void valloc_set_huge_pages(valloc_huge_pages choice)
{
    va_arena_set_huge_pages((HugePages)choice);
}

int valloc_version(void)
{
    return VALLOC_VERSION;
}

VA_COLD void valloc_get_stats(valloc_stats *stats)
{
    Census census;
    va_stats_count(&census, NULL);
    va_stats_collect(stats, &census);
}

VA_COLD int valloc_stats_classes(const MemoryAllocator *allocator,
                                 int (*visit)(const valloc_class_stats *, void *), void *context)
{
    Census census;
    int result = 0;
    if (allocator != NULL && !va_allocator_is_live(allocator))
        return 0;
    va_stats_count(&census, allocator != NULL ? va_allocator_of(allocator) : NULL);
    for (unsigned class = 0; class <= VA_CLASSES && result == 0; class ++)
        if (census.rows[class].blocks != 0)
            result = visit(&census.rows[class], context);
    return result;
}

VA_COLD int valloc_stats_caches(int (*visit)(const valloc_cache_stats *, void *), void *context)
{
    return va_stats_caches(visit, context);
}

VA_COLD void valloc_stats_print(valloc_stats_format format,
                                void (*write)(void *context, const char *text), void *context)
{
    va_print_stats(format, write, context);
}

VA_COLD void valloc_stats_write(int file)
{
    va_print_counters(file);
}

/* ---- Allocators ---- */

/* An allocator that is none is the caller's bug, like a bad pointer. */
static VA_COLD Allocator *allocator_of_handle(const MemoryAllocator *handle, const char *function)
{
    if (va_unlikely(handle == NULL || !va_allocator_is_live(handle)))
        va_fatal(function, "not an initialised MemoryAllocator", handle);
    return va_allocator_of(handle);
}

/* A limit in blocks; 0 stays 0, which is none. */
static VA_COLD size_t blocks_of(size_t bytes)
{
    return bytes == 0 ? 0 : va_max(bytes >> VA_BLOCK_SHIFT, 1);
}

VA_COLD int valloc_init_with(MemoryAllocator *allocator, size_t initial_blocks, int num_threads,
                             const valloc_options *options)
{
    static const valloc_options defaults = {0};
    const valloc_options *chosen = options != NULL ? options : &defaults;
    size_t soft = blocks_of(chosen->soft_limit);
    size_t hard = blocks_of(chosen->hard_limit);
    bool soft_fits = chosen->soft_limit == 0 || soft >= initial_blocks;
    bool hard_fits = chosen->hard_limit == 0 || (hard >= initial_blocks && hard >= soft);
    if (allocator == NULL || initial_blocks == 0 || num_threads < 1 ||
        num_threads > VALLOC_MAX_THREADS || !soft_fits || !hard_fits ||
        va_allocator_is_live(allocator)) {
        errno = EINVAL;
        return -1;
    }
    if (!va_allocator_init(allocator, initial_blocks, (size_t)num_threads, soft, hard,
                           chosen->name)) {
        errno = ENOMEM;
        return -1;
    }
    return 0;
}

VA_COLD int valloc_init(MemoryAllocator *allocator, size_t initial_blocks, int num_threads)
{
    return valloc_init_with(allocator, initial_blocks, num_threads, NULL);
}

VA_COLD void valloc_destroy(MemoryAllocator *allocator)
{
    if (allocator == NULL || !va_allocator_is_live(allocator))
        return;
    if (allocator == &va_process.shown)
        va_fatal("valloc_destroy", "the allocator of the process cannot be destroyed", allocator);
    va_route_destroy(va_allocator_of(allocator));
}

VA_INLINE void *allocate_fast(const MemoryAllocator *allocator, size_t size)
{
    CacheFront *front = va_allocator_front(allocator);
    return va_likely(front != NULL) ? VA_ALLOCATE_FROM(front, size) : NULL;
}

static VA_APART void *allocate_slow(MemoryAllocator *allocator, size_t size)
{
    Allocator *own = allocator_of_handle(allocator, "valloc_allocate");
    if (va_sampling_wants(size))
        return allocate_sampled(own, size, VA_MIN_ALIGN, false);
    return or_no_memory(va_route_allocate(own, size, VA_MIN_ALIGN));
}

VA_APART void *valloc_allocate(MemoryAllocator *allocator, size_t size)
{
    void *slot = allocate_fast(allocator, size);
    if (va_likely(slot != NULL))
        return va_memtag_out(slot);
    return allocate_slow(allocator, size);
}

VA_APART void *valloc_allocate_zeroed(MemoryAllocator *allocator, size_t count, size_t size)
{
    size_t bytes;
    if (va_unlikely(!multiply(count, size, &bytes)))
        return or_no_memory(NULL);
    void *slot = allocate_fast(allocator, bytes);
    if (va_likely(slot != NULL))
        return va_memtag_out(memset(slot, 0, bytes));
    return valloc_allocate_aligned_zeroed(allocator, VA_MIN_ALIGN, bytes);
}

VA_COLD void *valloc_allocate_aligned(MemoryAllocator *allocator, size_t alignment, size_t size)
{
    Allocator *own = allocator_of_handle(allocator, "valloc_allocate_aligned");
    if (va_unlikely(!is_alignment(alignment)))
        return NULL;
    if (va_sampling_wants(size))
        return allocate_sampled(own, size, alignment, false);
    return or_no_memory(va_route_allocate(own, size, alignment));
}

VA_COLD void *valloc_allocate_aligned_zeroed(MemoryAllocator *allocator, size_t alignment,
                                             size_t size)
{
    Allocator *own = allocator_of_handle(allocator, "valloc_allocate_zeroed");
    if (va_unlikely(!is_alignment(alignment)))
        return NULL;
    if (va_sampling_wants(size))
        return allocate_sampled(own, size, alignment, true);
    return or_no_memory(va_route_allocate_zeroed(own, size, alignment));
}

VA_COLD void *valloc_reallocate(MemoryAllocator *allocator, void *ptr, size_t size)
{
    return valloc_reallocate_aligned(allocator, ptr, VA_MIN_ALIGN, size);
}

VA_COLD void *valloc_reallocate_aligned(MemoryAllocator *allocator, void *ptr, size_t alignment,
                                        size_t size)
{
    Allocator *own = allocator_of_handle(allocator, "valloc_reallocate");
    if (va_unlikely(!is_alignment(alignment)))
        return NULL;
    void *slot = va_memtag_in(ptr, "valloc_reallocate");
    if (va_sampling_wants(size))
        return reallocate_sampled(own, ptr, size, alignment, "valloc_reallocate");
    return or_old(va_route_reallocate(own, slot, size, alignment, "valloc_reallocate"), ptr);
}

static VA_APART void free_valloc_slow(const MemoryAllocator *allocator, void *ptr)
{
    if (allocator == NULL || ptr == NULL)
        return;
    allocator_of_handle(allocator, "free_valloc");
    va_route_free(ptr, "free_valloc");
}

VA_APART void free_valloc(MemoryAllocator *allocator, void *ptr)
{
    CacheFront *front = va_allocator_front(allocator);
    ptr = va_memtag_in(ptr, "free_valloc");
    if (va_unlikely(front == NULL || !va_free_to(front, ptr)))
        free_valloc_slow(allocator, ptr);
}

VA_COLD MemoryAllocator *valloc_process(void)
{
    return &va_process.shown;
}

VA_COLD MemoryAllocator *valloc_owner(const void *ptr)
{
    const Allocator *owner = va_owner(va_memtag_strip(ptr));
    return owner != NULL ? owner->handle : NULL;
}

VA_COLD int valloc_set_limits(MemoryAllocator *allocator, size_t soft_limit, size_t hard_limit)
{
    if (allocator == NULL || !va_allocator_is_live(allocator) ||
        (hard_limit != 0 && soft_limit > hard_limit)) {
        errno = EINVAL;
        return -1;
    }
    Allocator *own = va_allocator_of(allocator);
    va_pool_limit(own, blocks_of(soft_limit), blocks_of(hard_limit));
    if (soft_limit != 0)
        va_allocator_relieve(own);
    return 0;
}

VA_COLD int valloc_blocks(MemoryAllocator *allocator, int (*visit)(const MemoryBlock *, void *),
                          void *context)
{
    return va_route_blocks(allocator_of_handle(allocator, "valloc_blocks"), visit, context);
}

VA_COLD void valloc_dump(MemoryAllocator *allocator, void (*write)(void *, const char *),
                         void *context)
{
    va_print_allocator(allocator_of_handle(allocator, "valloc_dump"), write, context);
}

/* ---- Profile ---- */

VA_COLD int valloc_profile_start(size_t rate, valloc_profile_mode mode)
{
    int error = va_sampling_start(rate, (ProfileMode)mode);
    if (error == 0)
        return 0;
    errno = error;
    return -1;
}

VA_COLD void valloc_profile_stop(void)
{
    va_profile_stop();
}

typedef struct Sink {
    int (*take)(void *context, const void *bytes, size_t count);
    void *context;
} Sink;

static VA_COLD bool pass_on(void *context, const void *bytes, size_t count)
{
    const Sink *sink = context;
    return sink->take(sink->context, bytes, count) == 0;
}

VA_COLD int valloc_profile_dump(valloc_profile_format format,
                                int (*write)(void *context, const void *bytes, size_t count),
                                void *context)
{
    Sink sink = {write, context};
    return va_profile_dump((ProfileFormat)format, pass_on, &sink) ? 0 : -1;
}

typedef struct Visit {
    int (*visit)(const valloc_profile_sample *sample, void *context);
    void *context;
} Visit;

static VA_COLD int show(const ProfileSample *sample, void *context)
{
    const Visit *visit = context;
    valloc_profile_sample shown = {.ptr = va_memtag_of(sample->pointer),
                                   .size = sample->size,
                                   .objects = sample->objects,
                                   .bytes = sample->bytes,
                                   .age_ms = sample->age_ms,
                                   .allocator = sample->label,
                                   .stack = sample->stack,
                                   .depth = sample->depth,
                                   .thread = sample->thread};
    return visit->visit(&shown, visit->context);
}

VA_COLD int valloc_profile_visit(int (*visit)(const valloc_profile_sample *sample, void *context),
                                 void *context)
{
    Visit chosen = {visit, context};
    return va_profile_visit(show, &chosen);
}
