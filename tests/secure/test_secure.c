/* test_secure.c: what a secure build promises beyond the normal one, feature by feature; what the
 * build lacks is skipped. */
#include "support.h"

#include <pthread.h>
#include <sys/mman.h>

#include "child.h"
#include "simulated.h"

#define TEST_API 1
#include "subject.h"

#include "table/block_table.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* Small, several to a page, the largest slot, runs, large. */
static const size_t sizes[] = {1,    8,     24,        100,       400,     1000,
                               4000, 20000, 100 * KIB, 900 * KIB, 3 * MIB, 40 * MIB};
#define SIZES (sizeof sizes / sizeof *sizes)

static void *hide(void *pointer)
{
    void *volatile hidden = pointer;
    return hidden;
}

static void must_abort(const char *what, size_t size, const Child *child, const char *message)
{
    if (!WIFSIGNALED(child->status) || WTERMSIG(child->status) != SIGABRT ||
        strstr(child->text, message) == NULL)
        fail_msg("%s, %zu bytes: status %d, said '%s', not '%s'", what, size, child->status,
                 child->text, message);
}

static void *free_it(void *pointer)
{
    valloc_free(pointer);
    return NULL;
}

static void free_elsewhere(void *pointer)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, free_it, pointer) != 0 || pthread_join(thread, NULL) != 0)
        _exit(9);
}

/* ---- Exact ---- */

static void free_after_others(void *size)
{
    void *others[300];
    void *block = hide(valloc_malloc(*(size_t *)size));
    for (int i = 0; i < 300; i++)
        others[i] = valloc_malloc(*(size_t *)size);
    valloc_free(block);
    for (int i = 0; i < 300; i++)
        valloc_free(others[i]);
    valloc_free(hide(block));
    _exit(0);
}

static void free_twice_elsewhere(void *size)
{
    void *block = hide(valloc_malloc(*(size_t *)size));
    free_elsewhere(block);
    free_elsewhere(hide(block));
    _exit(0);
}

static void free_here_and_elsewhere(void *size)
{
    void *block = hide(valloc_malloc(*(size_t *)size));
    void *other = valloc_malloc(*(size_t *)size);
    valloc_free(block);
    valloc_free(other);
    free_elsewhere(hide(block));
    _exit(0);
}

static void free_elsewhere_and_here(void *size)
{
    void *block = hide(valloc_malloc(*(size_t *)size));
    free_elsewhere(block);
    valloc_free(hide(block));
    _exit(0);
}

static void free_twice_sized(void *size)
{
    void *block = hide(valloc_malloc(*(size_t *)size));
    void *other = valloc_malloc(*(size_t *)size);
    valloc_free_sized(block, *(size_t *)size);
    valloc_free_sized(other, *(size_t *)size);
    valloc_free_sized(hide(block), *(size_t *)size);
    _exit(0);
}

static void realloc_of_freed(void *size)
{
    void *block = hide(valloc_malloc(*(size_t *)size));
    valloc_free(block);
    block = valloc_realloc(hide(block), *(size_t *)size);
    _exit(block == NULL);
}

static void usable_size_of_freed(void *size)
{
    void *block = hide(valloc_malloc(*(size_t *)size));
    valloc_free(block);
    _exit(valloc_usable_size(hide(block)) == 0);
}

static void free_twice_of_own(void *size)
{
    static MemoryAllocator allocator;
    if (valloc_init(&allocator, 1, 4) != 0)
        _exit(9);
    void *block = hide(valloc_allocate(&allocator, *(size_t *)size));
    void *other = valloc_allocate(&allocator, *(size_t *)size);
    free_valloc(&allocator, block);
    free_valloc(&allocator, other);
    free_valloc(&allocator, hide(block));
    _exit(0);
}

static void every_second_free_is_seen_at_once(void **state)
{
    (void)state;
    if (!VALLOC_CHECKS)
        skip();
    void (*const crimes[])(void *) = {
        free_after_others, free_twice_elsewhere, free_here_and_elsewhere, free_elsewhere_and_here,
        free_twice_sized,  realloc_of_freed,     usable_size_of_freed,    free_twice_of_own};
    for (size_t c = 0; c < sizeof crimes / sizeof *crimes; c++) {
        for (size_t i = 0; i < SIZES - 1; i++) { /* 300 of the last one are too much */
            char what[32];
            Child child = child_run(crimes[c], (void *)(uintptr_t)&sizes[i]);
            snprintf(what, sizeof what, "crime %zu", c);
            must_abort(what, sizes[i], &child, "freed already");
        }
    }
}

static void free_16_bytes_in(void *size)
{
    char *block = hide(valloc_malloc(*(size_t *)size));
    valloc_free(hide(block + 16));
    _exit(0);
}

static void free_8_bytes_in(void *size)
{
    char *block = hide(valloc_malloc(*(size_t *)size));
    valloc_free(hide(block + 8));
    _exit(0);
}

static void interior_frees_are_seen_at_once(void **state)
{
    (void)state;
    if (!VALLOC_CHECKS)
        skip();
    for (size_t i = 2; i < SIZES; i++) { /* the next slot starts 16 bytes behind the smallest */
        Child child = child_run(free_16_bytes_in, (void *)(uintptr_t)&sizes[i]);
        must_abort("16 bytes in", sizes[i], &child, "not the start of an allocation");
        child = child_run(free_8_bytes_in, (void *)(uintptr_t)&sizes[i]);
        must_abort("8 bytes in", sizes[i], &child, "not the start of an allocation");
    }
}

/* The remainder's test by a multiplication, for every offset in a slab. */
static void slots_start_where_they_start(void **state)
{
    (void)state;
    for (unsigned class = 0; class < VA_CLASSES_SMALL; class ++) {
        const SizeClass *size_class = &va_size_classes[class];
        for (uint32_t offset = 0; offset < VA_BLOCK_BYTES; offset++) {
            uint64_t product = (uint64_t)offset * size_class->reciprocal;
            assert_int_equal(product >> 32, offset / size_class->bytes);
            assert_int_equal((uint32_t)product < size_class->reciprocal,
                             offset % size_class->bytes == 0);
        }
    }
}

/* ---- Random order and quarantine ---- */

static void slots_come_in_random_order(void **state)
{
    (void)state;
    if (!VALLOC_SECURE_RANDOM)
        skip();
    static char *slots[2000];
    int ascending = 0;
    for (int i = 0; i < 2000; i++) {
        slots[i] = valloc_malloc(200);
        ascending += i > 0 && slots[i] > slots[i - 1];
    }
    assert_in_range(ascending, 800, 1200);
    for (int i = 0; i < 2000; i++)
        valloc_free(slots[i]);
}

static void freed_slots_wait(void **state)
{
    (void)state;
    if (!VALLOC_SECURE_QUARANTINE)
        skip();
    for (size_t i = 0; i < SIZES && sizes[i] + VA_CANARY_BYTES <= VA_RUN_MAX; i++) {
        size_t bytes = sizes[i] + VA_CANARY_BYTES;
        int waits_for = bytes <= VA_QUARANTINE_FINE_BYTES     ? VA_QUARANTINE_FINE_SLOTS
                        : bytes <= VA_QUARANTINE_MIDDLE_BYTES ? VA_QUARANTINE_MIDDLE_SLOTS
                        : bytes <= VA_SMALL_MAX               ? VA_QUARANTINE_COARSE_SLOTS
                                                              : VA_QUARANTINE_RUNS;
        for (int turn = 0; turn < 50; turn++) {
            uintptr_t freed = (uintptr_t)valloc_malloc(sizes[i]);
            valloc_free((void *)freed);
            for (int j = 0; j < waits_for; j++) {
                void *next = valloc_malloc(sizes[i]);
                assert_int_not_equal((uintptr_t)next, freed);
                valloc_free(next);
            }
        }
    }
}

/* ---- Zeroing ---- */

static bool all_zero(const char *from, const char *to)
{
    for (; from < to; from++)
        if (*(const volatile char *)from != 0)
            return false;
    return true;
}

/* Whether the kernel refuses to read a byte. */
static bool is_inaccessible(const char *byte)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    bool refused = write(ends[1], byte, 1) < 0;
    close(ends[0]);
    close(ends[1]);
    return refused;
}

/* A free leaves zeroes; a large block waits inaccessible, if it was not locked. */
static bool is_wiped(const char *block, size_t bytes)
{
    if (is_inaccessible(block))
        return VALLOC_SECURE_QUARANTINE && is_inaccessible(block + bytes / 2) &&
               bytes + VA_CANARY_BYTES > VA_RUN_MAX;
    return all_zero(block, block + bytes);
}

/* The kernel takes no pages back from locked memory. */
static void freed_locked_memory_is_zero(void **state)
{
    (void)state;
    const size_t size = 3 * MIB;
    char *block = valloc_malloc(size);
    if (!VALLOC_SECURE_ZERO || mlock(block, size) != 0) {
        valloc_free(block);
        skip();
    }
    fill_bytes(block, size, 0x5a);
    valloc_free(block);
    assert_true(is_wiped(hide(block), size));
    munlock(hide(block), size);
}

static void freed_memory_is_zero(void **state)
{
    (void)state;
    if (!VALLOC_SECURE_ZERO)
        skip();
    for (int elsewhere = 0; elsewhere < 2; elsewhere++) {
        for (size_t i = 0; i < SIZES - 1; i++) {
            char *block = valloc_malloc(sizes[i]);
            size_t usable = valloc_usable_size(block);
            fill_bytes(block, usable, 0x5a);
            if (elsewhere)
                free_elsewhere(block);
            else
                valloc_free(block);
            assert_true(is_wiped(hide(block), usable));
        }
    }
}

/* A guard page may lie behind the new end of what stays in place. */
static void shrink_filled(char *block, size_t old, size_t alignment, size_t size, bool locked)
{
    memset(block, 0x5a, old);
    if (locked)
        locked = mlock(block, old) == 0;
    char *now = valloc_aligned_realloc(hide(block), alignment, size);
    assert_non_null(now);
    const char *end = now + valloc_usable_size(now);
    const char *behind = end + VA_CANARY_BYTES + (VALLOC_SECURE_GUARD ? sysconf(_SC_PAGESIZE) : 0);
    assert_true(bytes_hold(now, size, 0x5a));
    assert_true(all_zero(now + size, end));
    if (now == block)
        assert_true(all_zero(behind, block + old));
    else
        assert_true(is_wiped(hide(block), old));
    if (locked)
        munlock(block, old);
    valloc_free(now);
}

static void what_realloc_gives_up_is_zero(void **state)
{
    (void)state;
    if (!VALLOC_SECURE_ZERO)
        skip();
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t alignment = 16; alignment <= 4 * MIB; alignment *= 512) {
            for (size_t part = 1; part <= 32; part *= 4) {
                for (int locked = 0; locked < 2; locked++) {
                    char *block = valloc_malloc(sizes[i]);
                    size_t old = valloc_usable_size(block);
                    shrink_filled(block, old, alignment, old - old / part / 2 - 1, locked);
                }
            }
        }
    }
}

/* Its pages move to where the alignment is another. */
static void what_a_move_of_pages_leaves_is_zero(void **state)
{
    (void)state;
    if (!VALLOC_SECURE_ZERO)
        skip();
    for (size_t size = 20 * MIB - 5000; size <= 60 * MIB; size += 20 * MIB) {
        char *block = valloc_malloc(40 * MIB);
        size_t old = valloc_usable_size(block);
        memset(block, 0x5a, old);
        char *now = valloc_aligned_realloc(block, 64 * MIB, size);
        if (now == block) { /* by chance */
            valloc_free(now);
            continue;
        }
        assert_true(is_wiped(hide(block), old));
        assert_true(bytes_hold(now, size < old ? size : old, 0x5a));
        assert_true(all_zero(now + (size < old ? size : old), now + valloc_usable_size(now)));
        valloc_free(now);
    }
}

static void what_is_destroyed_is_zero(void **state)
{
    (void)state;
    if (!VALLOC_SECURE_ZERO)
        skip();
    static MemoryAllocator allocator;
    char *blocks[SIZES];
    size_t usable[SIZES];
    assert_int_equal(valloc_init(&allocator, 4, 4), 0);
    for (size_t i = 0; i < SIZES; i++) {
        blocks[i] = valloc_allocate(&allocator, sizes[i]);
        usable[i] = valloc_usable_size(blocks[i]);
        memset(blocks[i], 0x5a, usable[i]);
    }
    bool locked = mlock(blocks[SIZES - 2], usable[SIZES - 2]) == 0;
    void *last = valloc_malloc(2 * MIB); /* at the end of the heap they would be unmapped */
    valloc_destroy(&allocator);
    for (size_t i = 0; i < SIZES; i++)
        assert_true(all_zero(hide(blocks[i]), blocks[i] + usable[i]));
    if (locked)
        munlock(blocks[SIZES - 2], usable[SIZES - 2]);
    valloc_free(last);
}

/* A free that gave the pages back has made calloc's work: kept by the thread or by the arena, the
 * block's pages come when they are touched. With each canary comes a page, maybe a huge one. */
static void clearing_makes_nothing_resident(void **state)
{
    enum { RUNS = 100 };
    char *runs[RUNS];
    (void)state;
    if (!VALLOC_SECURE_ZERO)
        skip();
    valloc_purge();
    long before_kib = resident_now_kib();
    for (int i = 0; i < RUNS; i++) {
        runs[i] = hide(valloc_malloc(900 * KIB));
        runs[i][0] = runs[i][500 * KIB] = 1;
    }
    for (int i = 0; i < RUNS; i++)
        valloc_free(runs[i]);
    assert_true(resident_now_kib() - before_kib <= 16 * 1024);
}

static void calloc_does_not_clear_again(void **state)
{
    (void)state;
    if (!VALLOC_SECURE_ZERO)
        skip();
    valloc_purge(); /* what runs of other classes lay there is resident, if zero */
    for (int kept = 0; kept < 2; kept++) {
        for (int turn = 0; turn < 4; turn++) {
            long before_kib = resident_now_kib();
            char *block = valloc_calloc(1, 40 * MIB);
            char *other = kept ? NULL : valloc_calloc(1, 39 * MIB);
            assert_true(resident_now_kib() - before_kib <= 8 * 1024);
            assert_true(all_zero(block, block + valloc_usable_size(block)));
            memset(block, 0x5a, valloc_usable_size(block));
            valloc_free(block);
            valloc_free(other);
        }
    }
}

/* ---- Canaries ---- */

/* A block that grows where it is takes its canary along, and shows no program the old one. */
static void a_block_grows_over_its_canary(void **state)
{
    (void)state;
    if (!VALLOC_SECURE_CANARY || !VALLOC_SECURE_ZERO)
        skip();
    for (size_t size = 100 * KIB; size <= 50 * MIB; size *= 2) {
        char *block = valloc_malloc(size);
        size_t old = valloc_usable_size(block);
        block = valloc_realloc(block, old + 300 * KIB);
        assert_true(all_zero(block + old, block + valloc_usable_size(block)));
        valloc_free(block);
    }
}

static struct {
    size_t size;
    int way, offset;
    char value;
} overrun;

static void write_behind(void *unused)
{
    (void)unused;
    char *block = hide(valloc_malloc(overrun.size));
    block[valloc_usable_size(block) + (size_t)overrun.offset] = overrun.value;
    if (overrun.way == 0)
        valloc_free(block);
    else if (overrun.way == 1)
        free_elsewhere(block);
    else
        block = valloc_realloc(block, overrun.size + 1);
    _exit(block == NULL);
}

static void writes_behind_the_end_are_seen(void **state)
{
    (void)state;
    if (!VALLOC_SECURE_CANARY)
        skip();
    for (size_t i = 0; i < SIZES; i++) {
        for (overrun.way = 0; overrun.way < 3; overrun.way++) {
            for (int value = 0; value <= 256; value += 254) { /* 0: that of a string's end */
                overrun.size = sizes[i];
                overrun.value = (char)value;
                overrun.offset = 0;
                Child child = child_run(write_behind, NULL);
                must_abort("overrun", sizes[i], &child, "written to beyond its end");
            }
        }
    }
}

static void all_usable_bytes_are_the_programs(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t alignment = 16; alignment <= 2 * MIB; alignment *= 4) {
            char *block = valloc_aligned_alloc(alignment, sizes[i]);
            size_t usable = valloc_usable_size(block);
            assert_true(usable >= sizes[i]);
            memset(block, 0xff, usable);
            block = valloc_realloc(block, usable);
            assert_int_equal(valloc_usable_size(block) >= usable, 1);
            memset(block, 0xff, usable);
            valloc_free_sized(block, usable);
        }
        valloc_sized_ptr sized = valloc_malloc_at_least(sizes[i]);
        assert_int_equal(sized.size, valloc_usable_size(sized.ptr));
        memset(sized.ptr, 0xff, sized.size);
        valloc_free_sized(sized.ptr, sized.size);
    }
}

/* ---- Guard pages ---- */

static bool kernel_has_guards(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return madvise(page, 4096, 102) == 0;
}

static void touch(void *address)
{
    signal(SIGSEGV, SIG_DFL); /* cmocka has a handler */
    *(volatile char *)address = 1;
}

static void must_trap(const char *what, char *address)
{
    Child child = child_run(touch, address);
    if (!WIFSIGNALED(child.status) || WTERMSIG(child.status) != SIGSEGV)
        fail_msg("%s: status %d", what, child.status);
}

static void large_blocks_lie_between_guards(void **state)
{
    (void)state;
    if (!VALLOC_SECURE_GUARD || !kernel_has_guards())
        skip();
    for (int turn = 0; turn < 3; turn++) {
        char *block = valloc_malloc(3 * MIB);
        must_trap("before", block - 1);
        must_trap("behind", block + valloc_usable_size(block) + VA_CANARY_BYTES);
        for (size_t size = 2 * MIB; size < 20 * MIB; size += 5 * MIB) {
            block = valloc_realloc(block, size);
            memset(block, 1, size);
            must_trap("before, resized", block - 1);
            must_trap("behind, resized", block + valloc_usable_size(block) + VA_CANARY_BYTES);
        }
        valloc_free(block);
    }
}

/* Where guards were, memory is memory again. */
static void guards_go_with_their_blocks(void **state)
{
    (void)state;
    static char *blocks[400];
    for (int turn = 0; turn < 4; turn++) {
        for (int i = 0; i < 400; i++) {
            size_t size = turn % 2 == 0 ? 1200 * KIB : 5000;
            blocks[i] = valloc_malloc(size);
            memset(blocks[i], 1, size);
        }
        for (int i = 0; i < 400; i++)
            valloc_free(blocks[i]);
        valloc_purge();
        char *all = valloc_malloc(400 * MIB); /* where all of them were */
        for (size_t at = 0; at < 400 * MIB; at += 4096)
            all[at] = 1;
        valloc_free(all);
        valloc_purge();
    }
}

static bool traps(char *address)
{
    Child child = child_run(touch, address);
    return WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGSEGV;
}

static void some_slabs_end_with_a_guard(void **state)
{
    (void)state;
    if (!VALLOC_SECURE_GUARD || !kernel_has_guards())
        skip();
    static char *slots[4000];
    int found = 0;
    for (int i = 0; i < 4000; i++)
        slots[i] = valloc_malloc(1000);
    for (int i = 0; i < 4000 && found == 0; i++) {
        const Block *slab = va_block_of(slots[i]);
        if (va_block_number(slab) % VA_GUARD_BLOCKS == 0)
            found += traps(va_block_address(slab) + VA_BLOCK_BYTES - 1);
    }
    assert_true(found > 0);
    for (int i = 0; i < 4000; i++)
        valloc_free(slots[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_second_free_is_seen_at_once),
        cmocka_unit_test(interior_frees_are_seen_at_once),
        cmocka_unit_test(slots_start_where_they_start),
        cmocka_unit_test(slots_come_in_random_order),
        cmocka_unit_test(freed_slots_wait),
        cmocka_unit_test(freed_memory_is_zero),
        cmocka_unit_test(freed_locked_memory_is_zero),
        cmocka_unit_test(what_realloc_gives_up_is_zero),
        cmocka_unit_test(what_a_move_of_pages_leaves_is_zero),
        cmocka_unit_test(what_is_destroyed_is_zero),
        cmocka_unit_test(clearing_makes_nothing_resident),
        cmocka_unit_test(calloc_does_not_clear_again),
        cmocka_unit_test(a_block_grows_over_its_canary),
        cmocka_unit_test(writes_behind_the_end_are_seen),
        cmocka_unit_test(all_usable_bytes_are_the_programs),
        cmocka_unit_test(large_blocks_lie_between_guards),
        cmocka_unit_test(guards_go_with_their_blocks),
        cmocka_unit_test(some_slabs_end_with_a_guard),
    };
    stop_clock(); /* what is freed stays mapped, to be looked at */
    return cmocka_run_group_tests_name("secure", tests, NULL, NULL);
}
