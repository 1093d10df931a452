/* fuzz_allocators.c: MemoryAllocators beside that of the process: several at a time, with options
 * right and wrong, limits, destruction with live blocks, blocks freed and resized through any of
 * them, from three threads of which some share a cache. */
#include "model.h"

#define ALLOCATORS 4

typedef struct Model {
    MemoryAllocator allocator;
    size_t initial_blocks;
    size_t hard_limit;  /* blocks; 0 for none */
    bool limit_changed; /* it may hold more than its limit */
    bool other_threads; /* have used it: their caches hold slots that count as live */
} Model;

static Model models[ALLOCATORS];
static Model process;

static MemoryAllocator *allocator_of(const Model *model)
{
    return model == &process ? valloc_process() : (MemoryAllocator *)(uintptr_t)&model->allocator;
}

static bool is_live(const Model *model)
{
    return model == &process || model->initial_blocks != 0;
}

/* Any that is live: now and then the process's. */
static Model *take_live(void)
{
    size_t first = take_below(input, ALLOCATORS + 1);
    for (size_t i = first; i < ALLOCATORS; i++)
        if (is_live(&models[i]))
            return &models[i];
    return &process;
}

static void note_use(MemoryAllocator *allocator)
{
    for (size_t i = 0; i < ALLOCATORS; i++)
        if (allocator == &models[i].allocator)
            models[i].other_threads |= next_thread != 0;
}

static void check_counters(const Model *model)
{
    const MemoryAllocator *allocator = &model->allocator;
    demand(allocator->used_blocks <= allocator->total_blocks);
    demand(allocator->total_blocks >= model->initial_blocks);
    if (model->hard_limit != 0 && !model->limit_changed)
        demand(allocator->total_blocks <= model->hard_limit);
}

static void start(uint8_t how)
{
    Model *model = &models[how % ALLOCATORS];
    size_t initial = take_below(input, 40);
    int threads = (int)take_below(input, 6);
    size_t soft = (size_t)take_byte(input) * VALLOC_BLOCK_BYTES;
    size_t hard = (size_t)take_byte(input) * VALLOC_BLOCK_BYTES * (how & 64 ? 1 : 0);
    valloc_options options = {soft * (how & 128 ? 1 : 0), hard, how & 32 ? "fuzzed" : NULL};
    size_t soft_blocks = options.soft_limit / VALLOC_BLOCK_BYTES;
    size_t hard_blocks = options.hard_limit / VALLOC_BLOCK_BYTES;
    bool valid = !is_live(model) && initial != 0 && threads >= 1 &&
                 (soft_blocks == 0 || soft_blocks >= initial) &&
                 (hard_blocks == 0 || (hard_blocks >= initial && hard_blocks >= soft_blocks));
    if (!is_live(model))
        memset(&model->allocator, how, sizeof model->allocator);
    int result = valloc_init_with(&model->allocator, initial, threads, &options);
    demand(result == (valid ? 0 : -1));
    demand(errno == (valid ? NO_ERROR : EINVAL));
    if (!valid)
        return;
    model->limit_changed = model->other_threads = false;
    model->initial_blocks = initial;
    model->hard_limit = hard_blocks;
    demand(model->allocator.total_blocks == initial && model->allocator.used_blocks == 0);
    demand(model->allocator.num_threads == threads && model->allocator.recycled_blocks == 0);
}

static void forget_all_of(const MemoryAllocator *allocator)
{
    for (size_t i = held_count; i-- > 0;)
        if (held[i].allocator == allocator) {
            check_contents(&held[i], held[i].ptr, held[i].usable);
            forget(i);
        }
}

static void destroy(Model *model)
{
    static const MemoryAllocator zeroed;
    if (!is_live(model)) {
        memset(&model->allocator, 0, sizeof model->allocator);
    } else {
        check_counters(model);
        forget_all_of(&model->allocator);
    }
    valloc_destroy(&model->allocator);
    demand(errno == NO_ERROR);
    demand(memcmp(&model->allocator, &zeroed, sizeof zeroed) == 0);
    memset(model, 0, sizeof *model);
}

static bool expect(const Model *model, const void *result)
{
    if (result == NULL)
        demand(errno == ENOMEM && model->hard_limit != 0);
    else
        demand(errno == NO_ERROR);
    return result != NULL;
}

static void allocate(uint8_t how)
{
    Model *model = take_live();
    MemoryAllocator *allocator = allocator_of(model);
    size_t size = take_size();
    size_t alignment = how & 1 ? take_alignment() : 16;
    size_t count = 1 + how / 32;
    void *ptr;
    if (!has_room(size + alignment))
        return;
    note_use(allocator);
    switch (how % 4) {
    case 0:
        ptr = valloc_allocate(allocator, size);
        break;
    case 1:
        ptr = valloc_allocate_aligned(allocator, alignment, size);
        break;
    case 2:
        size = size / count * count;
        ptr = valloc_allocate_zeroed(allocator, count, size / count);
        break;
    default:
        ptr = valloc_allocate_aligned_zeroed(allocator, alignment, size);
    }
    if (!expect(model, ptr))
        return;
    demand(model->hard_limit == 0 || model->limit_changed ||
           size <= model->hard_limit * VALLOC_BLOCK_BYTES);
    if (how & 2)
        check_zero(ptr, size);
    hold(ptr, size, alignment, how & 1 ? KIND_ALIGNED : KIND_PLAIN, allocator);
}

static void ask_the_impossible(uint8_t how)
{
    MemoryAllocator *allocator = allocator_of(take_live());
    size_t size = take_impossible_size();
    const void *result = NULL;
    int expected = ENOMEM;
    switch (how % 4) {
    case 0:
        result = valloc_allocate(allocator, size);
        break;
    case 1:
        result = valloc_allocate_zeroed(allocator, size, 3);
        break;
    case 2:
        result = valloc_allocate_aligned(allocator, take_alignment(), size);
        break;
    default:
        expected = EINVAL;
        result = valloc_allocate_aligned_zeroed(allocator, take_bad_alignment(), size);
    }
    demand(result == NULL && errno == expected);
}

/* Through any allocator: the block stays with its own. */
static void resize(uint8_t how)
{
    const Model *through = take_live();
    size_t index = take_below(input, held_count + 1);
    size_t size = take_size();
    size_t alignment = how & 1 ? take_alignment() : 16;
    Held old = {.allocator = allocator_of(through)};
    if (!has_room(size + alignment))
        return;
    if (index < held_count) {
        old = held[index];
        check_contents(&old, old.ptr, old.usable);
    }
    note_use(old.allocator);
    void *ptr = how & 1 ? valloc_reallocate_aligned(allocator_of(through), old.ptr, alignment, size)
                        : valloc_reallocate(allocator_of(through), old.ptr, size);
    const Model *owner = &process;
    for (size_t i = 0; i < ALLOCATORS; i++)
        if (old.allocator == &models[i].allocator)
            owner = &models[i];
    if (!expect(owner, ptr)) {
        check_contents(&old, old.ptr, old.usable);
        return;
    }
    check_contents(&old, ptr, size);
    if (old.ptr != NULL)
        forget(index);
    hold(ptr, size, alignment, how & 1 ? KIND_ALIGNED : KIND_PLAIN, old.allocator);
}

static void release(uint8_t how)
{
    MemoryAllocator *through = allocator_of(take_live());
    if (held_count == 0)
        return;
    size_t index = take_below(input, held_count);
    Held block = held[index];
    check_contents(&block, block.ptr, block.usable);
    note_use(block.allocator);
    forget(index);
    if (how % 4 == 0)
        valloc_free(block.ptr);
    else if (how % 4 == 1)
        free_valloc(through, block.ptr);
    else if (how % 4 == 2 || block.kind == KIND_ALIGNED)
        free_valloc(block.allocator, block.ptr);
    else
        valloc_free_sized(block.ptr, block.size);
    demand(errno == NO_ERROR);
}

static void change_limits(uint8_t how)
{
    Model *model = &models[how % ALLOCATORS];
    size_t soft = (size_t)take_byte(input) * 16384;
    size_t hard = (size_t)take_byte(input) * 16384;
    bool valid = is_live(model) && (hard == 0 || soft <= hard);
    if (!is_live(model))
        memset(&model->allocator, 0, sizeof model->allocator);
    demand(valloc_set_limits(&model->allocator, soft, hard) == (valid ? 0 : -1));
    demand(errno == (valid ? NO_ERROR : EINVAL));
    if (!valid)
        return;
    model->hard_limit = hard == 0 ? 0 : hard < VALLOC_BLOCK_BYTES ? 1 : hard / VALLOC_BLOCK_BYTES;
    model->limit_changed = true;
}

static void ignore_text(void *context, const char *text)
{
    *(size_t *)context += strlen(text);
}

/* Every live slot of an allocator that only this thread has used is a block of the model. */
static void look(uint8_t how)
{
    Model *model = &models[how % ALLOCATORS];
    size_t expected = 0;
    size_t length = 0;
    if (!is_live(model) || next_thread != 0)
        return;
    for (size_t i = 0; i < held_count; i++)
        expected += held[i].allocator == &model->allocator;
    size_t live = live_slots(&model->allocator);
    demand(model->other_threads ? live >= expected : live == expected);
    check_counters(model);
    valloc_dump(&model->allocator, ignore_text, &length);
    demand(length != 0);
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
        case 3:
        case 4:
            start(how);
            break;
        case 5:
            destroy(&models[how % ALLOCATORS]);
            break;
        case 6:
            change_limits(how);
            break;
        case 7:
            check_all();
            break;
        case 8:
        case 9:
            look(how);
            break;
        case 10:
            if (how % 8 == 0)
                valloc_purge();
            break;
        case 11:
        case 12:
        case 13:
        case 14:
            resize(how);
            break;
        case 15:
        case 16:
        case 17:
        case 18:
        case 19:
        case 20:
        case 21:
            release(how);
            break;
        default:
            allocate(how);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input bytes = {data, data + size};
    run_input(&bytes, operate);
    for (size_t i = 0; i < ALLOCATORS; i++) {
        errno = NO_ERROR;
        destroy(&models[i]);
    }
    check_all();
    for (; held_count > 0; forget(held_count - 1))
        valloc_free(held[held_count - 1].ptr);
    return 0;
}
