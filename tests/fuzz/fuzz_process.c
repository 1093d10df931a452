/* fuzz_process.c: the allocator of the process: every function of valloc.h that allocates, frees,
 * resizes or tells, from three threads, with limits and purges in between. */
#include "model.h"

static bool limited;

/* A result that was to be had, or was not. */
static bool expect(const void *result, bool possible)
{
    if (result == NULL) {
        demand(errno == ENOMEM);
        demand(!possible || limited);
        return false;
    }
    demand(errno == NO_ERROR);
    demand(possible);
    return true;
}

static void allocate_plain(uint8_t how)
{
    size_t size = take_size();
    void *ptr;
    size_t count = 1 + how / 32;
    if (!has_room(size))
        return;
    switch (how % 4) {
    case 0:
    case 1:
        ptr = valloc_malloc(size);
        break;
    case 2:
        size = size / count * count;
        ptr = valloc_calloc(count, size / count);
        if (ptr != NULL)
            check_zero(ptr, size);
        break;
    default: {
        valloc_sized_ptr got = valloc_malloc_at_least(size);
        ptr = got.ptr;
        demand((got.ptr == NULL) == (got.size == 0));
        demand(ptr == NULL || (got.size >= size && got.size == valloc_usable_size(ptr)));
    }
    }
    if (expect(ptr, true)) {
        hold(ptr, size, 16, KIND_PLAIN, valloc_process());
        demand(size == 0 || valloc_good_size(size) == valloc_usable_size(ptr));
    }
}

static void allocate_aligned(uint8_t how)
{
    size_t size = take_size();
    size_t alignment = take_alignment();
    void *ptr = NULL;
    if (!has_room(size + alignment))
        return;
    switch (how % 4) {
    case 0:
        ptr = valloc_aligned_alloc(alignment, size);
        break;
    case 1:
        ptr = valloc_aligned_calloc(alignment, size);
        if (ptr != NULL)
            check_zero(ptr, size);
        break;
    case 2:
        ptr = valloc_memalign(alignment, size);
        break;
    default: {
        alignment = alignment < sizeof(void *) ? sizeof(void *) : alignment;
        int error = valloc_posix_memalign(&ptr, alignment, size);
        demand(error == (ptr == NULL ? ENOMEM : 0) && errno == NO_ERROR);
        if (ptr == NULL)
            errno = ENOMEM;
    }
    }
    if (expect(ptr, true))
        hold(ptr, size, alignment, KIND_ALIGNED, valloc_process());
}

/* Requests that must be refused, whatever memory there is. */
static void ask_the_impossible(uint8_t how)
{
    size_t size = take_impossible_size();
    void *ptr = NULL;
    switch (how % 8) {
    case 0:
        expect(valloc_malloc(size), false);
        break;
    case 1:
        expect(valloc_calloc(size, 1 + how / 8), false);
        break;
    case 2:
        expect(valloc_calloc((SIZE_MAX >> how / 16) / 2 + 2, (size_t)2 << how / 16), false);
        break;
    case 3:
        expect(valloc_aligned_alloc(take_alignment(), size), false);
        break;
    case 4:
        expect(valloc_aligned_alloc((size_t)1 << (47 + how / 16), take_size()), false);
        break;
    case 5:
        demand(valloc_malloc_at_least(size).ptr == NULL && errno == ENOMEM);
        break;
    case 6:
        demand(valloc_posix_memalign(&ptr, 64, size) == ENOMEM && ptr == NULL && errno == NO_ERROR);
        break;
    default:
        demand(valloc_good_size(size) >= size);
    }
}

static void use_a_bad_alignment(uint8_t how)
{
    size_t alignment = take_bad_alignment();
    size_t size = take_size();
    void *ptr = NULL;
    switch (how % 4) {
    case 0:
        demand(valloc_aligned_alloc(alignment, size) == NULL && errno == EINVAL);
        break;
    case 1:
        demand(valloc_aligned_calloc(alignment, size) == NULL && errno == EINVAL);
        break;
    case 2:
        demand(valloc_posix_memalign(&ptr, alignment, size) == EINVAL && ptr == NULL);
        demand(errno == NO_ERROR);
        break;
    default:
        if (held_count != 0) {
            const Held *block = &held[how % held_count];
            demand(valloc_aligned_realloc(block->ptr, alignment, size) == NULL && errno == EINVAL);
            check_contents(block, block->ptr, block->usable);
        }
    }
}

static void resize(uint8_t how)
{
    size_t index = take_below(input, held_count + 1); /* one beyond: NULL */
    size_t size = take_size();
    size_t alignment = 16;
    size_t count = 1 + how / 32;
    Held old = {0};
    void *ptr;
    if (!has_room(size))
        return;
    if (index < held_count) {
        old = held[index];
        check_contents(&old, old.ptr, old.usable);
    }
    switch (how % 4) {
    case 0:
    case 1:
        ptr = valloc_realloc(old.ptr, size);
        break;
    case 2:
        size = size / count * count;
        ptr = valloc_reallocarray(old.ptr, size / count, count);
        break;
    default:
        alignment = take_alignment();
        ptr = valloc_aligned_realloc(old.ptr, alignment, size);
    }
    if (!expect(ptr, true)) {
        check_contents(&old, old.ptr, old.usable);
        return;
    }
    check_contents(&old, ptr, size);
    if (old.ptr != NULL)
        forget(index);
    hold(ptr, size, alignment, how % 4 == 3 ? KIND_ALIGNED : KIND_PLAIN, valloc_process());
}

static void resize_to_the_impossible(uint8_t how)
{
    if (held_count == 0)
        return;
    const Held *block = &held[how / 4 % held_count];
    size_t size = take_impossible_size();
    switch (how % 4) {
    case 0:
        expect(valloc_realloc(block->ptr, size), false);
        break;
    case 1:
        expect(valloc_reallocarray(block->ptr, size, 2), false);
        break;
    case 2:
        expect(valloc_aligned_realloc(block->ptr, 64, size), false);
        break;
    default:
        demand(valloc_expand(block->ptr, size) == NULL && errno == NO_ERROR);
    }
    check_contents(block, block->ptr, block->usable);
}

static void expand(void)
{
    if (held_count == 0)
        return;
    size_t index = take_below(input, held_count);
    Held old = held[index];
    size_t size = take_size();
    if (!has_room(size))
        return;
    void *ptr = valloc_expand(old.ptr, size);
    demand(errno == NO_ERROR);
    demand(ptr == old.ptr || (ptr == NULL && size > old.usable));
    check_contents(&old, old.ptr, old.usable);
    if (ptr == NULL) {
        demand(valloc_usable_size(old.ptr) == old.usable);
        return;
    }
    forget(index);
    hold(ptr, size > old.size ? size : old.size, old.alignment, old.kind, valloc_process());
}

static void release(uint8_t how)
{
    if (held_count == 0)
        return;
    size_t index = take_below(input, held_count);
    Held block = held[index];
    size_t given = how & 4 ? block.size : block.usable;
    check_contents(&block, block.ptr, block.usable);
    demand(valloc_usable_size(block.ptr) == block.usable);
    forget(index);
    if (how % 2 == 0)
        valloc_free(block.ptr);
    else if (block.kind == KIND_PLAIN)
        valloc_free_sized(block.ptr, given);
    else
        valloc_free_aligned_sized(block.ptr, block.alignment, given);
    demand(errno == NO_ERROR);
}

static void release_null(void)
{
    valloc_free(NULL);
    valloc_free_sized(NULL, 5);
    valloc_free_aligned_sized(NULL, 64, 5);
    demand(valloc_usable_size(NULL) == 0 && valloc_expand(NULL, 10) == NULL);
    demand(valloc_owner(NULL) == NULL && valloc_owner(held) == NULL);
    demand(errno == NO_ERROR);
}

/* For a while the process may have little more than it has. */
static void limit(uint8_t how)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    demand(stats.lent <= stats.committed && stats.committed <= stats.reserved);
    limited = !limited;
    size_t hard = limited ? stats.lent + (size_t)(how / 16) * VALLOC_BLOCK_BYTES : 0;
    demand(valloc_set_limits(valloc_process(), 0, hard) == 0);
    demand(valloc_set_limits(valloc_process(), 2, 1) == -1 && errno == EINVAL);
}

static void operate(void)
{
    size_t thread = next_thread;
    while (!input_is_over(input) && next_thread == thread) {
        uint8_t what = take_byte(input);
        uint8_t how = take_byte(input);
        errno = NO_ERROR;
        switch (what % 32) {
        case 0:
            take_thread();
            break;
        case 1:
            ask_the_impossible(how);
            break;
        case 2:
            use_a_bad_alignment(how);
            break;
        case 3:
            resize_to_the_impossible(how);
            break;
        case 4:
            release_null();
            break;
        case 5:
            if (how % 4 == 0)
                limit(how);
            break;
        case 6:
            if (how % 8 == 0)
                valloc_purge();
            break;
        case 7:
            check_all();
            break;
        case 8:
        case 9:
            expand();
            break;
        case 10:
        case 11:
        case 12:
            allocate_aligned(how);
            break;
        case 13:
        case 14:
        case 15:
        case 16:
            resize(how);
            break;
        case 17:
        case 18:
        case 19:
        case 20:
        case 21:
        case 22:
        case 23:
            release(how);
            break;
        default:
            allocate_plain(how);
        }
    }
}

static void flush(void)
{
    live_slots(valloc_process());
}

static void purge(void)
{
    valloc_purge();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input bytes = {data, data + size};
    run_input(&bytes, operate);
    if (limited)
        limit(0);
    check_all();
    for (; held_count > 0; forget(held_count - 1))
        valloc_free(held[held_count - 1].ptr);
    /* Nothing is live, and after a purge nothing is held. */
    bool all = size % 8 == 0 || has_exited;
    for (size_t thread = THREADS; thread-- > 0;)
        if (thread == 0 || workers[thread].alive)
            run_on(thread, all ? purge : flush);
    has_exited = false;
    demand(live_slots(valloc_process()) == 0);
    if (all) {
        valloc_stats stats;
        purge();
        valloc_get_stats(&stats);
        demand(stats.lent == 0 && stats.dirty == 0);
        demand(valloc_process()->used_blocks == 0 && valloc_process()->total_blocks == 0);
    }
    return 0;
}
