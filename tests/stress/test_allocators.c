/* test_allocators.c: a hundred allocators, eight threads, random work: blocks of random sizes go
 * from thread to thread, are freed by any function, and whole allocators are destroyed and made
 * anew. Contents are verified all along. TEST_SECONDS sets the length of the run. */
#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

#define ALLOCATORS 100
#define THREADS 8
#define PLACES 64

typedef struct Subject {
    pthread_rwlock_t lock; /* held exclusively to destroy */
    MemoryAllocator allocator;
    void *_Atomic places[PLACES];
} Subject;

static Subject subjects[ALLOCATORS];
static _Atomic size_t destroyed;
static time_t end;

typedef struct Header {
    size_t size;
    unsigned char mark;
} Header;

static void check(const Header *block)
{
    const unsigned char *bytes = (const unsigned char *)(block + 1);
    size_t length = block->size - sizeof *block;
    if (length > 0 && !bytes_hold(bytes, length, block->mark)) {
        fprintf(stderr, "the contents of %p have changed\n", (const void *)block);
        abort();
    }
}

static Header *fill(void *memory, size_t size, unsigned char mark)
{
    Header *block = memory;
    if (block == NULL)
        abort();
    block->size = size;
    block->mark = mark;
    fill_bytes(block + 1, size - sizeof *block, mark);
    return block;
}

static size_t random_size(uint64_t r)
{
    size_t span = r % 256 == 0 ? (size_t)2 << 20 : r % 16 == 0 ? 40000 : 600;
    return sizeof(Header) + (r >> 8) % span;
}

static Header *make(Subject *subject, uint64_t r)
{
    MemoryAllocator *allocator = &subject->allocator;
    size_t size = random_size(r);
    unsigned char mark = (unsigned char)(r >> 48);
    switch (r >> 60 & 3) {
    case 0:
        return fill(valloc_allocate_zeroed(allocator, 1, size), size, mark);
    case 1:
        return fill(valloc_allocate_aligned(allocator, (size_t)16 << (r >> 40) % 9, size), size,
                    mark);
    default:
        return fill(valloc_allocate(allocator, size), size, mark);
    }
}

static void drop(Header *block, uint64_t r)
{
    if (block == NULL)
        return;
    check(block);
    switch (r >> 58 & 3) {
    case 0:
        valloc_free(block);
        break;
    case 1:
        free_valloc(valloc_process(), block);
        break;
    default:
        free_valloc(valloc_owner(block), block);
    }
}

static void destroy_and_renew(Subject *subject, uint64_t r)
{
    for (int i = 0; i < PLACES; i++) {
        const Header *block = atomic_exchange(&subject->places[i], NULL);
        if (block != NULL)
            check(block);
    }
    valloc_destroy(&subject->allocator);
    if (valloc_init(&subject->allocator, 1 + r % 3, 1 + (int)((r >> 8) % 10)) != 0)
        abort();
    atomic_fetch_add(&destroyed, 1);
}

static void *work(void *seed)
{
    uint64_t state = (uintptr_t)seed * 0x9e3779b97f4a7c15u + 1;
    while (time(NULL) < end) {
        for (int i = 0; i < 200; i++) {
            uint64_t r = random_next(&state);
            Subject *subject = &subjects[r % ALLOCATORS];
            uint64_t s = random_next(&state);
            if (r >> 54 == 0) {
                pthread_rwlock_wrlock(&subject->lock);
                destroy_and_renew(subject, s);
                pthread_rwlock_unlock(&subject->lock);
                continue;
            }
            pthread_rwlock_rdlock(&subject->lock);
            void *_Atomic *place = &subject->places[(r >> 16) % PLACES];
            if (r >> 62 == 0) {
                Header *block = atomic_exchange(place, NULL);
                if (block != NULL) {
                    check(block);
                    size_t size = random_size(s);
                    unsigned char mark = block->mark;
                    size_t kept = block->size < size ? block->size : size;
                    block = valloc_reallocate(&subject->allocator, block, size);
                    if (block == NULL || block->mark != mark)
                        abort();
                    block->size = kept < FILL_EDGE ? kept : FILL_EDGE; /* filled in any case */
                    check(block);
                    drop(atomic_exchange(place, fill(block, size, (unsigned char)s)), s);
                }
            } else {
                drop(atomic_exchange(place, make(subject, s)), r);
            }
            pthread_rwlock_unlock(&subject->lock);
        }
        if (seed == (void *)1)
            valloc_purge(); /* looks into allocators that others destroy */
    }
    return NULL;
}

static void allocators_stay_apart(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    const char *seconds = getenv("TEST_SECONDS");
    end = time(NULL) + (seconds != NULL ? atoi(seconds) : 5);
    for (int i = 0; i < ALLOCATORS; i++) {
        assert_int_equal(pthread_rwlock_init(&subjects[i].lock, NULL), 0);
        assert_int_equal(valloc_init(&subjects[i].allocator, 1, 1 + i % 10), 0);
    }
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < ALLOCATORS; i++)
        valloc_destroy(&subjects[i].allocator);
    assert_true(atomic_load(&destroyed) > 0);
    printf("%zu allocators destroyed\n", atomic_load(&destroyed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(allocators_stay_apart)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
