/* test_untouched.c: freed memory is neither read nor written. The pages of freed slots are made
 * inaccessible before the frees; any touch by the allocator would end the test. */
#include "support.h"

#include <pthread.h>
#include <sys/mman.h>

#define TEST_API 1
#include "subject.h"

#define SLOTS 4096

static void *slots[SLOTS];

static void *free_all(void *unused)
{
    (void)unused;
    for (int i = 0; i < SLOTS; i++)
        valloc_free(slots[i]);
    return NULL;
}

static void frees_leave_the_memory_alone(void **state)
{
    (void)state;
    const uintptr_t page = 4096;
    for (int foreign = 0; foreign < 2; foreign++) {
        for (size_t size = 16; size <= 32768; size *= 2) {
            uintptr_t lowest = UINTPTR_MAX;
            uintptr_t highest = 0;
            for (int i = 0; i < SLOTS; i++) {
                slots[i] = valloc_malloc(size);
                uintptr_t address = (uintptr_t)slots[i];
                lowest = address < lowest ? address : lowest;
                highest = address + size > highest ? address + size : highest;
            }
            /* Every page that these slots alone can have: nothing else is allocated here. */
            lowest = lowest & ~(page - 1);
            highest = (highest + page - 1) & ~(page - 1);
            assert_int_equal(mprotect((void *)lowest, highest - lowest, PROT_NONE), 0);
            if (foreign) {
                pthread_t thread;
                assert_int_equal(pthread_create(&thread, NULL, free_all, NULL), 0);
                pthread_join(thread, NULL);
            } else {
                free_all(NULL);
            }
            assert_int_equal(mprotect((void *)lowest, highest - lowest, PROT_READ | PROT_WRITE), 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frees_leave_the_memory_alone)};
    return cmocka_run_group_tests_name("untouched", tests, NULL, NULL);
}
