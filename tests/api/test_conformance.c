/* test_conformance.c: what C23, POSIX and valloc.h promise: every size to 64 KiB with every
 * alignment and operation, larger ones sampled, with overlaps looked for; then the corners. */
#include "support.h"

#include "subject.h"

#define SIZE_LIMIT ((size_t)65536)
#define LIVE 128
#if defined(SANITIZED) && !defined(STRIDE)
#define STRIDE 7 /* every size in the other builds */
#elif !defined(STRIDE)
#define STRIDE 1
#endif
/* A build that samples sizes does with fewer large blocks, and so does one that clears them. */
#define LARGE_TURNS (STRIDE > 7 || SECURED ? 300 : 3000)

typedef struct Live {
    unsigned char *block;
    size_t size;
    size_t alignment;
    unsigned char value;
    bool sized; /* how it is freed */
} Live;

static Live live[LIVE];
static unsigned next_value;

static int by_address(const void *a, const void *b)
{
    const Live *x = a;
    const Live *y = b;
    return x->block < y->block ? -1 : x->block > y->block;
}

/* No two live blocks share a byte of their usable sizes. */
static void check_apart(void)
{
    Live sorted[LIVE];
    memcpy(sorted, live, sizeof live);
    qsort(sorted, LIVE, sizeof *sorted, by_address);
    for (int i = 1; i < LIVE; i++)
        if (sorted[i - 1].block != NULL)
            assert_true(sorted[i - 1].block + subject_usable_size(sorted[i - 1].block) <=
                        sorted[i].block);
}

static void end(Live *one)
{
    if (one->block == NULL)
        return;
    if (!bytes_hold(one->block, one->size, one->value))
        fail_msg("a block of %zu bytes changed under its owner", one->size);
    if (!one->sized)
        subject_free(one->block);
    else if (one->alignment > 16)
        subject_free_aligned_sized(one->block, one->alignment, one->size);
    else
        subject_free_sized(one->block, one->size);
    one->block = NULL;
}

static void end_all(void)
{
    for (int i = 0; i < LIVE; i++)
        end(&live[i]);
}

/* Takes over a block that an operation returned; size 0 counts as 1 byte, but in secure builds. */
static void begin(size_t place, void *block, size_t size, size_t alignment, bool sized)
{
    Live *one = &live[place % LIVE];
    if (block == NULL || (uintptr_t)block % (alignment > 16 ? alignment : 16) != 0)
        fail_msg("size %zu, alignment %zu: %p", size, alignment, block);
    if (subject_usable_size(block) < (size == 0 ? !SECURED : size))
        fail_msg("size %zu, alignment %zu: usable size too small", size, alignment);
    end(one);
    *one = (Live){block, size, alignment, (unsigned char)(++next_value % 255 + 1), sized};
    fill_bytes(block, size, one->value);
}

static void every_size_by_every_operation(void **state)
{
    (void)state;
    for (size_t size = 0; size <= SIZE_LIMIT; size += STRIDE) {
        begin(size * 7, subject_malloc(size), size, 1, size % 2);
        unsigned char *zeroed =
            subject_calloc(size % 3 == 0 ? size / 3 : 1, size % 3 == 0 ? 3 : size);
        if (zeroed == NULL || !bytes_hold(zeroed, size, 0))
            fail_msg("calloc of %zu bytes", size);
        begin(size * 7 + 1, zeroed, size, 1, size % 2);
        begin(size * 7 + 2, subject_realloc(NULL, size), size, 1, size % 2);
        /* From the block before, larger and smaller: contents stay up to the smaller size. */
        size_t other = (size * 2654435761u) % SIZE_LIMIT + 1;
        unsigned char *moved = subject_malloc(size);
        fill_bytes(moved, size, 0x5a);
        moved = subject_realloc(moved, other);
        if (moved == NULL || (size < other && !bytes_hold(moved, size, 0x5a)) ||
            (other <= size && other <= FILL_EDGE && !bytes_hold(moved, other, 0x5a)))
            fail_msg("realloc from %zu to %zu bytes", size, other);
        begin(size * 7 + 3, moved, other, 1, size % 2);
        if (size / STRIDE % 1024 == 0)
            check_apart();
    }
    end_all();
}

static void every_size_at_every_alignment(void **state)
{
    (void)state;
    size_t turn = 0;
    for (size_t alignment = 1; alignment <= SIZE_LIMIT; alignment *= 2) {
        for (size_t size = 0; size <= SIZE_LIMIT; size += STRIDE, turn++) {
            void *block = NULL;
            if (turn % 3 == 0 && alignment >= sizeof(void *))
                assert_int_equal(subject_posix_memalign(&block, alignment, size), 0);
            else if (turn % 3 == 1)
                block = subject_memalign(alignment, size);
            else
                block = subject_aligned_alloc(alignment, size);
            begin(turn, block, size, alignment, turn % 2);
            if (turn % 4096 == 0)
                check_apart();
        }
    }
    end_all();
}

static void large_sizes_and_alignments(void **state)
{
    (void)state;
    /* Most of the time would go into clearing and copying the largest: a tenth are. */
    const size_t largest = (size_t)1 << (WATCHED_BYTES == 0 ? 30 : 26); /* tools have it copied */
    const size_t most = (size_t)16 << 20;
    uint64_t seed = 11;
    for (int i = 0; i < LARGE_TURNS; i++) {
        size_t limit = i % 10 == 0 ? largest : most;
        unsigned bits = 16 + (unsigned)(random_next(&seed) % 15);
        size_t size =
            ((size_t)1 << bits) - 2 + random_next(&seed) % (i % 2 ? 4 : (size_t)1 << bits);
        size_t alignment = (size_t)1 << random_next(&seed) % 31;
        if (size > limit)
            size = limit;
        size_t place = (size_t)(i % 16); /* few at a time: address space */
        end(&live[place]);
        if (i % 3 == 0) {
            begin(place, subject_aligned_alloc(alignment, size), size, alignment, i % 2);
        } else if (i % 3 == 1) {
            unsigned char *zeroed = subject_calloc(1, size);
            assert_non_null(zeroed);
            assert_true(bytes_hold(zeroed, size, 0));
            assert_int_equal(zeroed[size / 2], 0);
            begin(place, zeroed, size, 1, i % 2);
        } else {
            size_t first = 1 + random_next(&seed) % size;
            unsigned char *block = subject_malloc(first);
            assert_non_null(block);
            block[0] = 1;
            block[first - 1] = 2;
            block = subject_realloc(block, size);
            assert_non_null(block);
            assert_int_equal(block[first - 1], first == 1 ? 2 : 2);
            assert_int_equal(block[0], first == 1 ? 2 : 1);
            begin(place, block, size, 1, i % 2);
        }
        check_apart();
    }
    end_all();
}

static void realloc_keeps_every_byte(void **state)
{
    (void)state;
    size_t size = 1;
    unsigned char *block = subject_malloc(size);
    block[0] = 0;
    /* Up to 64 MiB and down again, through every route: slots, runs in place, moved pages. */
    for (int step = 0; step < 60; step++) {
        size_t next = step < 45 ? size + size / 2 + 1 : size / 3 + 1;
        block = subject_realloc(block, next);
        assert_non_null(block);
        size_t kept = size < next ? size : next;
        for (size_t i = 0; i < kept; i += 509)
            if (block[i] != (unsigned char)(i * 31))
                fail_msg("byte %zu lost from %zu to %zu", i, size, next);
        for (size_t i = 0; i < next; i++)
            block[i] = (unsigned char)(i * 31);
        size = next;
    }
    subject_free(block);
}

/* Opaque to the compiler, which otherwise warns of these sizes or removes the calls. */
static volatile size_t huge_sizes[] = {
    SIZE_MAX,    SIZE_MAX - 1,       SIZE_MAX - 15, SIZE_MAX - 65535, (size_t)PTRDIFF_MAX + 1,
    PTRDIFF_MAX, PTRDIFF_MAX - 65536};

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    unsigned char *kept = subject_malloc(100);
    fill_bytes(kept, 100, 7);
    for (size_t i = 0; i < sizeof huge_sizes / sizeof *huge_sizes; i++) {
        size_t size = huge_sizes[i];
        void *out = kept;
#define REFUSED(call)                                                                              \
    errno = 0;                                                                                     \
    assert_null(call);                                                                             \
    assert_int_equal(errno, ENOMEM)
        REFUSED(subject_malloc(size));
        REFUSED(subject_calloc(1, size));
        REFUSED(subject_calloc(size, 1));
        REFUSED(subject_calloc(size, size));
        REFUSED(subject_calloc(size / 2, 4));
        REFUSED(subject_realloc(NULL, size));
        REFUSED(subject_realloc(kept, size));
        REFUSED(subject_reallocarray(NULL, size, size));
        REFUSED(subject_reallocarray(NULL, size / 4, 8));
        REFUSED(subject_aligned_alloc(64, size));
        REFUSED(subject_aligned_alloc((size_t)1 << 40, size));
        REFUSED(subject_memalign(4096, size));
        errno = 5;
        assert_int_equal(subject_posix_memalign(&out, 64, size), ENOMEM);
        assert_ptr_equal(out, kept);
        assert_int_equal(errno, 5);
    }
    /* Alignments that no address space has. */
    volatile size_t alignment = (size_t)1 << 63;
    REFUSED(subject_aligned_alloc(alignment, 1));
    REFUSED(subject_aligned_alloc(alignment >> 1, 1));
    assert_true(bytes_hold(kept, 100, 7));
    subject_free(kept);
}

static void bad_alignments_are_refused(void **state)
{
    (void)state;
    static volatile size_t bad[] = {0, 3, 24, 48, 4097};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        void *out = &out;
        errno = 0;
        assert_null(subject_aligned_alloc(bad[i], 64));
        assert_int_equal(errno, EINVAL);
        assert_int_equal(subject_posix_memalign(&out, bad[i], 64), EINVAL);
        assert_ptr_equal(out, &out);
    }
    void *out = NULL;
    assert_int_equal(subject_posix_memalign(&out, 4, 64), EINVAL); /* below a pointer's */
}

static void zero_sizes_are_unique_and_null_is_ignored(void **state)
{
    (void)state;
    void *blocks[64];
    for (int i = 0; i < 64; i++) {
        blocks[i] = i % 2 ? subject_malloc(0) : subject_calloc(0, 8);
        assert_non_null(blocks[i]);
        for (int k = 0; k < i; k++)
            assert_ptr_not_equal(blocks[i], blocks[k]);
    }
    for (int i = 0; i < 64; i++)
        subject_free(blocks[i]);
    subject_free(NULL);
    subject_free_sized(NULL, 8);
    subject_free_aligned_sized(NULL, 64, 8);
    assert_int_equal(subject_usable_size(NULL), 0);
}

static void frees_keep_errno(void **state)
{
    (void)state;
    for (size_t size = 1; size < (size_t)256 << 20; size *= 3) {
        void *first = subject_malloc(size);
        void *second = subject_malloc(size);
        assert_non_null(first);
        assert_non_null(second);
        errno = 1234;
        subject_free(first);
        subject_free_sized(second, size);
        assert_int_equal(errno, 1234);
    }
}

static void usable_bytes_are_all_usable(void **state)
{
    (void)state;
    for (size_t size = 1; size < 300000; size += 1 + size / 64) {
        unsigned char *block = subject_malloc(size);
        unsigned char *next = subject_malloc(size);
        size_t usable = subject_usable_size(block);
        memset(next, 2, subject_usable_size(next));
        memset(block, 1, usable);
        assert_int_equal(next[0], 2);
        assert_int_equal(next[subject_usable_size(next) - 1], 2);
        assert_ptr_equal(subject_realloc(block, usable), block); /* stays where it is */
        assert_int_equal(subject_usable_size(block), usable);
        subject_free(block);
        subject_free_sized(next, size);
    }
}

static void calloc_clears_what_was_used(void **state)
{
    (void)state;
    for (size_t size = 1; size < (size_t)8 << 20; size += 1 + size / 8) {
        for (int turn = 0; turn < 3; turn++) {
            unsigned char *block = subject_calloc(1, size);
            assert_int_equal(block[0], 0);
            if (size > 1 && memcmp(block, block + 1, size - 1) != 0)
                fail_msg("calloc of %zu bytes is not zero", size);
            memset(block, 0xff, size);
            subject_free(block);
        }
    }
}

#ifdef TEST_API

static void sizes_told_are_the_sizes_given(void **state)
{
    (void)state;
    for (size_t size = 0; size < (size_t)4 << 20; size += 1 + size / 50) {
        valloc_sized_ptr some = valloc_malloc_at_least(size);
        assert_non_null(some.ptr);
        assert_true(some.size >= size);
        assert_int_equal(valloc_usable_size(some.ptr), some.size);
        assert_int_equal(valloc_good_size(size), some.size);
        memset(some.ptr, 1, some.size);
        valloc_free_sized(some.ptr, some.size);
    }
    volatile size_t huge = SIZE_MAX;
    errno = 0;
    assert_null(valloc_malloc_at_least(huge).ptr);
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(valloc_good_size(huge), huge);
}

static void expand_stays_in_place(void **state)
{
    (void)state;
    unsigned char *block = valloc_malloc(100);
    size_t usable = valloc_usable_size(block);
    assert_ptr_equal(valloc_expand(block, usable), block);
    errno = 77;
    assert_null(valloc_expand(block, WATCHED_BYTES == 0 ? usable + 1 : 200));
    assert_null(valloc_expand(NULL, 1));
    assert_int_equal(errno, 77);
    valloc_free(block);
    block = valloc_malloc((size_t)2 << 20);
    fill_bytes(block, (size_t)2 << 20, 9);
    if (valloc_expand(block, (size_t)3 << 20) != NULL) {
        assert_true(valloc_usable_size(block) >= (size_t)3 << 20);
        assert_true(bytes_hold(block, FILL_EDGE, 9));
        memset(block, 1, (size_t)3 << 20);
    }
    valloc_free(block);
}

static void aligned_blocks_stay_aligned(void **state)
{
    (void)state;
    uint64_t seed = 5;
    for (size_t alignment = 16; alignment <= (size_t)4 << 20; alignment *= 2) {
        size_t size = 1;
        unsigned char *block = valloc_aligned_calloc(alignment, size);
        assert_int_equal(block[0], 0);
        fill_bytes(block, size, 3);
        for (int i = 0; i < 40; i++) {
            size_t next = 1 + random_next(&seed) % (alignment * 3);
            block = valloc_aligned_realloc(block, alignment, next);
            assert_non_null(block);
            assert_int_equal((uintptr_t)block % alignment, 0);
            assert_int_equal(block[0], 3);
            size = next;
            fill_bytes(block, size, 3);
        }
        errno = 0;
        assert_null(valloc_aligned_realloc(block, 3, 10));
        assert_int_equal(errno, EINVAL);
        assert_true(bytes_hold(block, size < FILL_EDGE ? size : FILL_EDGE, 3));
        valloc_free_aligned_sized(block, alignment, size);
    }
}

static void a_realloc_to_nothing_is_no_free(void **state)
{
    (void)state;
    void *block = valloc_realloc(valloc_malloc(500), 0);
    assert_non_null(block);
    valloc_free(block);
}

static void purge_and_statistics(void **state)
{
    (void)state;
    valloc_stats before;
    valloc_stats freed;
    valloc_stats after;
    size_t bytes = (size_t)32 << 20;
    valloc_purge(); /* what others left does not count */
    unsigned char *block = valloc_malloc(bytes);
    memset(block, 1, bytes);
    valloc_get_stats(&before);
    assert_true(before.lent >= bytes && before.committed >= before.lent);
    assert_true(before.reserved >= before.committed && before.threads >= 1);
    valloc_free(block);
    valloc_get_stats(&freed); /* of a secure build, or late, the free gave it back */
    size_t given_back = valloc_purge();
    valloc_get_stats(&after);
    assert_int_equal(given_back, after.purged - freed.purged);
    assert_int_equal(after.dirty, 0);
    assert_true(after.purged >= before.purged + bytes);
    assert_true(after.lent + bytes <= before.lent);
    assert_int_equal(valloc_version(), VALLOC_VERSION);
}

#else

static void a_realloc_to_nothing_frees(void **state)
{
    (void)state;
    volatile size_t zero = 0;
    assert_null(realloc(malloc(500), zero));
}

static void libc_promises_are_kept(void **state)
{
    (void)state;
    void *block = memalign(24, 100); /* any alignment, rounded up */
    assert_int_equal((uintptr_t)block % 32, 0);
    free(block);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    block = valloc(10);
    assert_int_equal((uintptr_t)block % 4096, 0);
    free(block);
#ifdef __GLIBC__ /* what other libcs do not declare */
    block = pvalloc(4097);
    assert_int_equal((uintptr_t)block % 4096, 0);
    assert_true(malloc_usable_size(block) >= 8192);
    free(block);
    volatile size_t huge = SIZE_MAX;
    errno = 0;
    assert_null(pvalloc(huge));
    assert_int_equal(errno, ENOMEM);
    malloc_trim(0); /* in quarantine a free would make room by returning what others left */
    struct mallinfo2 before = mallinfo2();
    block = malloc((size_t)16 << 20);
    memset(block, 1, (size_t)16 << 20);
    struct mallinfo2 info = mallinfo2();
    assert_int_equal(info.hblks, before.hblks + 1);
    assert_true(info.hblkhd >= before.hblkhd + ((size_t)16 << 20));
    assert_int_equal(info.uordblks, before.uordblks);
    assert_int_equal(info.uordblks + info.fordblks, info.arena);
    free(block);
    info = mallinfo2();
    assert_int_equal(info.hblks, before.hblks);
    assert_int_equal(info.hblkhd, before.hblkhd);
    void *small = malloc(20480);
    info = mallinfo2();
    assert_true(info.uordblks >= before.uordblks + 20480);
    assert_int_equal(info.hblkhd, before.hblkhd);
    free(small);
    assert_int_equal(mallinfo2().ordblks, info.ordblks + 1);
    assert_int_equal(mallinfo().ordblks, info.ordblks + 1);
    assert_int_equal(malloc_trim(0), 1);
    assert_int_equal(mallopt(M_MMAP_THRESHOLD, 1 << 20), 1);
    assert_int_equal(mallopt(M_ARENA_MAX, 1), 1);
    assert_int_equal(mallopt(M_MXFAST, 0), 1);
    assert_int_equal(mallopt(M_PERTURB, 1), 0);
    assert_int_equal(mallopt(1000, 1), 0);
    char text[4096] = "";
    FILE *stream = fmemopen(text, sizeof text, "w");
    assert_int_equal(malloc_info(0, stream), 0);
    fclose(stream);
    assert_non_null(strstr(text, "</malloc>"));
    assert_int_equal(malloc_info(1, stdout), -1);
#endif
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_by_every_operation),
        cmocka_unit_test(every_size_at_every_alignment),
        cmocka_unit_test(large_sizes_and_alignments),
        cmocka_unit_test(realloc_keeps_every_byte),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(bad_alignments_are_refused),
        cmocka_unit_test(zero_sizes_are_unique_and_null_is_ignored),
        cmocka_unit_test(frees_keep_errno),
        cmocka_unit_test(usable_bytes_are_all_usable),
        cmocka_unit_test(calloc_clears_what_was_used),
#ifdef TEST_API
        cmocka_unit_test(sizes_told_are_the_sizes_given),
        cmocka_unit_test(expand_stays_in_place),
        cmocka_unit_test(aligned_blocks_stay_aligned),
        cmocka_unit_test(a_realloc_to_nothing_is_no_free),
        cmocka_unit_test(purge_and_statistics),
#else
        cmocka_unit_test(a_realloc_to_nothing_frees),
        cmocka_unit_test(libc_promises_are_kept),
#endif
    };
    return cmocka_run_group_tests_name("conformance", tests, NULL, NULL);
}
