/* test_realloc.c: blocks that grow and shrink: what is copied, what stays resident, how many
 * mappings there are. The linker leads the library's memcpy to a counter here. */
#define _GNU_SOURCE
#include "support.h"

#include <sys/mman.h>

#include "child.h"
#include "base/config.h"
#include "valloc.h"

static size_t copied_bytes;

void *__real_memcpy(void *to, const void *from, size_t size);
void *__wrap_memcpy(void *to, const void *from, size_t size);

void *__wrap_memcpy(void *to, const void *from, size_t size)
{
    copied_bytes += size;
    return __real_memcpy(to, from, size);
}

static size_t mappings(void)
{
    size_t count = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    assert_non_null(file);
    for (int c; (c = fgetc(file)) != EOF;)
        count += c == '\n';
    fclose(file);
    return count;
}

/* The first bytes of the pages below `most`, each another value. */
static void write_pages(char *block, size_t from, size_t to, size_t most)
{
    for (size_t at = from; at < va_min(to, most); at += 4096)
        memcpy(block + at, &at, sizeof at);
    block[to - 1] = 7;
}

static void check_pages(const char *block, size_t size, size_t most)
{
    for (size_t at = 0; at < va_min(size, most); at += 4096)
        if (memcmp(block + at, &at, sizeof at) != 0)
            fail_msg("the page at %zu has changed", at);
    assert_int_equal(block[size - 1], 7);
}

/* Grows `count` buffers in turn from 4 KiB to `most` bytes by a factor of numerator / 4; each
 * stands in the others' way. Checks that no more than this is copied for each. */
static void grow(size_t count, size_t most, size_t numerator)
{
    const size_t touched = (64 * VA_MIB) / count;
    char *buffers[8];
    size_t size = 4096;
    copied_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        buffers[i] = valloc_malloc(size);
        write_pages(buffers[i], 0, size, touched);
    }
    copied_bytes = 0;
    while (size < most) {
        size_t next = va_min(size * numerator / 4 / 4096 * 4096 + 4096, most);
        for (size_t i = 0; i < count; i++) {
            size_t before = copied_bytes;
            buffers[i] = valloc_realloc(buffers[i], next);
            assert_non_null(buffers[i]);
            if (size >= VA_MOVE_PAGES_BYTES)
                assert_int_equal(copied_bytes, before);
            write_pages(buffers[i], size, next, touched);
        }
        size = next;
    }
    /* A geometric sum up to the size from which pages are moved. */
    assert_true(copied_bytes <= count * VA_MOVE_PAGES_BYTES * numerator / (numerator - 4));
    for (size_t i = 0; i < count; i++) {
        check_pages(buffers[i], size, touched);
        valloc_free(buffers[i]);
    }
}

static void growth_copies_the_first_bytes_only(void **state)
{
    (void)state;
    size_t before = mappings();
    grow(1, 4 * VA_GIB, 6);
    grow(1, 4 * VA_GIB, 8);
    grow(3, 4 * VA_GIB, 6);
    grow(8, 256 * VA_MIB, 8);
    valloc_purge();
    assert_true(mappings() <= before + 32);
}

static void a_buffer_alone_grows_in_place(void **state)
{
    (void)state;
    char *block = valloc_malloc(2 * VA_MIB);
    size_t moves = 0;
    for (size_t size = 3 * VA_MIB; size <= 4 * VA_GIB; size += size / 2) {
        char *grown = valloc_realloc(block, size);
        moves += grown != block;
        block = grown;
    }
    assert_true(moves <= 1); /* out of the zone of small heaps */
    valloc_free(block);
}

/* Many buffers of 4 KiB to 16 MiB, most of them large, resized at random. */
#define BUFFERS 200
#define TURNS 10000 /* 100,000 end with as few mappings */
static void mappings_stay_few(void **state)
{
    (void)state;
    static char *buffers[BUFFERS];
    static size_t sizes[BUFFERS];
    uint64_t seed = 5;
    size_t before = mappings();
    for (size_t i = 0; i < TURNS; i++) {
        size_t n = random_next(&seed) % BUFFERS;
        uint64_t r = random_next(&seed);
        size_t size = r % 8 == 0 ? 4096 + (r >> 8) % VA_MIB : VA_MIB + (r >> 8) % (15 * VA_MIB);
        char *block = valloc_realloc(buffers[n], size);
        assert_non_null(block);
        if (sizes[n] != 0)
            assert_int_equal(block[0], (char)n);
        block[0] = (char)n;
        buffers[n] = block;
        sizes[n] = size;
        if (i % 2000 == 0)
            assert_true(mappings() <= before + 2 * BUFFERS + 32);
    }
    for (size_t i = 0; i < BUFFERS; i++)
        valloc_free(buffers[i]);
    valloc_purge();
    assert_true(mappings() <= before + 32);
}

/* Beyond the bound of moved runs pages are copied again; whoever gives some back makes room. */
static void moved_runs_are_bounded(void **state)
{
    (void)state;
    const size_t count = VA_MOVED_RUNS_MAX + 40;
    const size_t size = VA_MOVE_PAGES_BYTES;
    char **buffers = valloc_malloc(count * sizeof *buffers);
    size_t before = mappings();
    for (size_t i = 0; i < count; i++)
        buffers[i] = valloc_malloc(size);
    copied_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        buffers[i] = valloc_realloc(buffers[i], size + VA_BLOCK_BYTES);
        assert_non_null(buffers[i]);
        buffers[i][0] = 1;
    }
    assert_true(copied_bytes >= 20 * size);
    size_t sealed = VALLOC_SECURE_QUARANTINE ? VA_SEALED_RUNS : 0; /* each counts as moved, too */
    assert_true(copied_bytes <= (60 + sealed) * size);
    assert_true(mappings() <= before + 2 * (VA_MOVED_RUNS_MAX + sealed) + 32);
    for (size_t i = 0; i < count; i++)
        valloc_free(buffers[i]);
    valloc_free(buffers);
    valloc_purge();
    assert_true(mappings() <= before + 32);
    grow(3, 100 * VA_MIB, 6);
}

#define ELSEWHERE (64 * VA_MIB) /* an alignment that the blocks do not have */

/* A block whose pages are several mappings, by advice that the program gave. */
static char *make_split(size_t size, size_t mappings_wanted)
{
    char *block = valloc_aligned_alloc(VA_HUGE_BYTES, size);
    while ((uintptr_t)block % ELSEWHERE == 0)
        require((block = valloc_aligned_alloc(VA_HUGE_BYTES, size)) != NULL);
    write_pages(block, 0, size, size);
    for (size_t i = 1; i < mappings_wanted; i += 2)
        require(madvise(block + i * (size / mappings_wanted), size / mappings_wanted,
                        MADV_DONTDUMP) == 0);
    return block;
}

static void blocks_of_several_mappings_are_copied(void **state)
{
    (void)state;
    const size_t size = 24 * VA_MIB;
    for (size_t parts = 2; parts <= 48; parts += parts) {
        char *block = make_split(size, parts);
        size_t all = valloc_usable_size(block); /* in a secure build more than was asked for */
        copied_bytes = 0;
        block = valloc_aligned_realloc(block, ELSEWHERE, 2 * size);
        assert_non_null(block);
        assert_int_equal(copied_bytes, all);
        for (size_t at = 0; at < size; at += 4096)
            assert_memory_equal(block + at, &at, sizeof at);
        valloc_free(block);
    }
}

/* The kernel refuses more mappings. */
static void move_at_the_limit(void *argument)
{
    size_t rest = (uintptr_t)argument;
    signal(SIGSEGV, SIG_DFL); /* not cmocka's */
    size_t most = 0;
    size_t size = 12 * VA_MIB;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    if (file == NULL || fscanf(file, "%zu", &most) != 1 || most > VA_MIB)
        _exit(0); /* too many to use them up */
    fclose(file);
    char *block = make_split(size, 1);
    size_t used = mappings();
    require(used + rest < most);
    char *pages = mmap(NULL, (most + 2) * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(pages != MAP_FAILED);
    for (size_t i = 0; used + 1 + 2 * i + rest < most; i++)
        if (mprotect(pages + (2 * i + 1) * 4096, 4096, PROT_READ) != 0)
            break;
    char *grown = valloc_aligned_realloc(block, ELSEWHERE, 2 * size);
    if (grown == NULL)
        grown = block;
    for (size_t at = 0; at < size; at += 4096)
        require(memcmp(grown + at, &at, sizeof at) == 0);
    _exit(0);
}

static void a_move_that_fails_loses_nothing(void **state)
{
    (void)state;
#ifdef SANITIZED /* it needs mappings of its own */
    skip();
#endif
    for (size_t rest = 0; rest < 24; rest++) {
        Child child = child_run(move_at_the_limit, (void *)rest);
        if (child.status != 0)
            fail_msg("%zu mappings left: status %x, said '%s'", rest, child.status, child.text);
    }
}

static void shrinking_gives_back_the_tail(void **state)
{
    (void)state;
    const size_t size = 64 * VA_MIB;
    valloc_purge();
    long before = resident_now_kib();
    char *block = valloc_malloc(size);
    write_pages(block, 0, size, size);
    copied_bytes = 0;
    assert_ptr_equal(valloc_realloc(block, 2 * VA_MIB), block);
    assert_true(valloc_usable_size(block) <= 2 * VA_MIB + (SECURED ? VA_BLOCK_BYTES : 0));
    assert_int_equal(copied_bytes, 0);
    valloc_purge();
    assert_true(resident_now_kib() - before < 8 << 10);
    /* From run to run in place, from run to slot by a copy of what is left. */
    block = valloc_realloc(block, VA_RUN_MAX - SECURED_BYTES);
    char *same = valloc_realloc(block, 700 * VA_KIB);
    assert_ptr_equal(same, block);
    assert_true(valloc_usable_size(same) < 800 * VA_KIB);
    size_t copied = copied_bytes;
    char *small = valloc_realloc(same, 100);
    assert_true(valloc_usable_size(small) < 128);
    assert_int_equal(copied_bytes - copied, 100);
    valloc_purge();
    assert_true(resident_now_kib() - before < 2 << 10);
    valloc_free(small);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(growth_copies_the_first_bytes_only),
        cmocka_unit_test(a_buffer_alone_grows_in_place),
        cmocka_unit_test(mappings_stay_few),
        cmocka_unit_test(moved_runs_are_bounded),
        cmocka_unit_test(blocks_of_several_mappings_are_copied),
        cmocka_unit_test(a_move_that_fails_loses_nothing),
        cmocka_unit_test(shrinking_gives_back_the_tail),
    };
    valloc_free(valloc_malloc(64 * VA_MIB)); /* the arena has its mappings */
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("realloc", tests, NULL, NULL);
}
