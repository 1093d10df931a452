/* test_stack_walk.c: walks on every kind of stack against the return addresses that the compiler
 * tells, and over frames made by hand against a walk that knows what is mapped. Compiled with
 * frame pointers. */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <ucontext.h>
#endif

#include "base/config.h"
#include "profile/stack_walk.h"

#define NESTED 4
#define MAX 32

typedef struct Walk {
    uintptr_t expected[NESTED];
    uintptr_t found[MAX];
    size_t depth, max;
} Walk;

/* Its caller comes first: what is here is of no interest. */
static __attribute__((noinline)) void capture(Walk *walk)
{
    walk->expected[0] = (uintptr_t)__builtin_return_address(0);
    walk->depth = va_stack_walk(VA_STACK_CALLER, &walk, walk->found, walk->max);
}

static __attribute__((noinline)) void nest(Walk *walk, int level)
{
    volatile char some[64] = {(char)level};
    walk->expected[level] = (uintptr_t)__builtin_return_address(0);
    if (level > 1)
        nest(walk, level - 1);
    else
        capture(walk);
    some[1] = some[0]; /* no jump to it */
}

static __attribute__((noinline)) void walk_nested(Walk *walk, size_t max)
{
    *walk = (Walk){.max = max};
    errno = 77;
    nest(walk, NESTED - 1);
    require(errno == 77);
    require(walk->depth >= (max < NESTED ? max : NESTED) && walk->depth <= max);
    for (size_t i = 0; i < NESTED && i < max; i++)
        require(walk->found[i] == walk->expected[i]);
}

static void nested_functions_are_found(void **state)
{
    (void)state;
    Walk walk;
    for (size_t max = 1; max <= MAX; max++)
        walk_nested(&walk, max);
    assert_int_equal(va_stack_walk(VA_STACK_CALLER, &state, walk.found, 0), 0);
}

static pthread_barrier_t go;

static void *walk_on_thread(void *unused)
{
    Walk walk;
    pthread_barrier_wait(&go);
    walk_nested(&walk, MAX);
    return unused;
}

/* One that the library makes, and one that lies between pages that cannot be read. */
static void threads_that_were_there_before_are_walked(void **state)
{
    (void)state;
    const size_t bytes = 1 << 20;
    const size_t gap = 64 << 10;
    pthread_t threads[2];
    pthread_attr_t attributes;
    char *memory = mmap(NULL, bytes + 2 * gap, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    assert_int_equal(mprotect(memory + gap, bytes, PROT_READ | PROT_WRITE), 0);
    pthread_barrier_init(&go, NULL, 3);
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_create(&threads[0], &attributes, walk_on_thread, NULL), 0);
    assert_int_equal(pthread_attr_setstack(&attributes, memory + gap, bytes), 0);
    assert_int_equal(pthread_create(&threads[1], &attributes, walk_on_thread, NULL), 0);
    pthread_barrier_wait(&go);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    pthread_attr_destroy(&attributes);
    munmap(memory, bytes + 2 * gap);
}

static void a_child_after_fork_is_walked(void **state)
{
    (void)state;
    Walk walk;
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        walk_nested(&walk, MAX);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static volatile sig_atomic_t handled;

/* qemu's user mode calls it with a stack that is not aligned. */
#if defined(__x86_64__)
__attribute__((force_align_arg_pointer))
#endif
static void
handle(int number)
{
    Walk walk;
    (void)number;
    walk_nested(&walk, MAX);
    handled++;
}

static void handlers_on_other_stacks_are_walked(void **state)
{
    (void)state;
    const size_t bytes = 256 << 10;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    stack_t alternate = {.ss_sp = memory, .ss_size = bytes};
    stack_t old;
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK};
    assert_int_equal(sigaltstack(&alternate, &old), 0);
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    raise(SIGUSR1);
    assert_int_equal(handled, 1);
    assert_int_equal(sigaltstack(&old, NULL), 0);
    munmap(memory, bytes);
}

#if defined(__GLIBC__) && !VA_TSAN /* which must be told of fibres */
static ucontext_t program, fibre;

static void run_fibre(void)
{
    Walk walk;
    walk_nested(&walk, MAX);
    handled++;
}

/* On memory that ends where the fibre's first frame lies, with nothing readable around. */
static void fibres_are_walked(void **state)
{
    (void)state;
    const size_t bytes = 256 << 10;
    const size_t gap = 64 << 10;
    char *memory = mmap(NULL, bytes + 2 * gap, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    assert_int_equal(mprotect(memory + gap, bytes, PROT_READ | PROT_WRITE), 0);
    assert_int_equal(getcontext(&fibre), 0);
    fibre.uc_stack.ss_sp = memory + gap;
    fibre.uc_stack.ss_size = bytes;
    fibre.uc_link = &program;
#if defined(__x86_64__) /* what the first function saves as its caller's frame */
    fibre.uc_mcontext.gregs[REG_RBP] = (greg_t)(memory + gap + bytes + 64);
#endif
    makecontext(&fibre, run_fibre, 0);
    handled = 0;
    assert_int_equal(swapcontext(&program, &fibre), 0);
    assert_int_equal(handled, 1);
    munmap(memory, bytes + 2 * gap);
}
#endif

/* ---- Frames made by hand ---- */

#define PAGES 8

static size_t page_bytes;
static char *pages;
static bool is_mapped[PAGES];

static bool can_be_read(uintptr_t address)
{
    uintptr_t start = (uintptr_t)pages;
    return address >= start && address < start + PAGES * page_bytes &&
           is_mapped[(address - start) / page_bytes];
}

static size_t naive_walk(const StackFrame *frame, uintptr_t *addresses, size_t max)
{
    size_t depth = 0;
    while (depth < max && frame->address >= VA_STACK_CODE_BYTES) {
        uintptr_t next = (uintptr_t)frame->next;
        addresses[depth++] = frame->address;
        if (next <= (uintptr_t)frame || next % 16 != 0 ||
            next < (uintptr_t)frame + sizeof(StackFrame) ||
            next > (uintptr_t)frame + VA_STACK_FRAME_BYTES || !can_be_read(next) ||
            !can_be_read(next + 8))
            break;
        frame = (const StackFrame *)next;
    }
    return depth;
}

/* Pages of frames of which some cannot be read: none, its first, last, or those between. */
static void chains_end_at_what_is_no_frame(void **state)
{
    (void)state;
    static uintptr_t found[4000];
    static uintptr_t expected[4000];
    uint64_t seed = 5;
    size_t depths = 0;
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    pages = mmap(NULL, (PAGES + 1) * page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    for (int turn = 0; turn < 400; turn++) {
        uintptr_t at = (uintptr_t)pages + random_next(&seed) % 64 * 16;
        const StackFrame *first = (const StackFrame *)at;
        assert_int_equal(mprotect(pages, PAGES * page_bytes, PROT_READ | PROT_WRITE), 0);
        while (at + 4096 < (uintptr_t)pages + PAGES * page_bytes) {
            StackFrame *frame = (StackFrame *)at;
            at += sizeof(StackFrame) + random_next(&seed) % (turn % 2 == 0 ? 20 : 200) * 16;
            frame->next = (const StackFrame *)at;
            frame->address = 0x400000 + random_next(&seed) % 100000;
            switch (random_next(&seed) % 1500) {
            case 0:
                frame->next = (const StackFrame *)(at + 1 + random_next(&seed) % 15);
                break;
            case 1:
                frame->next = (const StackFrame *)((uintptr_t)frame - 8);
                break;
            case 2:
                frame->next = (const StackFrame *)random_next(&seed);
                break;
            case 3:
                frame->next = (const StackFrame *)((uintptr_t)frame + 8);
                break;
            case 4:
                frame->address = random_next(&seed) % VA_STACK_CODE_BYTES;
                break;
            default:
                break;
            }
        }
        ((StackFrame *)at)->next =
            turn % 3 == 0 ? NULL : (const StackFrame *)(void *)(pages + PAGES * page_bytes);
        ((StackFrame *)at)->address = 0x500000;
        for (size_t i = 0; i < PAGES; i++) {
            is_mapped[i] = i == 0 || random_next(&seed) % 16 != 0;
            if (!is_mapped[i])
                assert_int_equal(mprotect(pages + i * page_bytes, page_bytes, PROT_NONE), 0);
        }
        size_t depth = va_stack_walk(*first, &first->address, found, 4000);
        assert_int_equal(depth, naive_walk(first, expected, 4000));
        assert_memory_equal(found, expected, depth * sizeof *found);
        depths += depth;
    }
    assert_true(depths > 400 * 50);
    munmap(pages, (PAGES + 1) * page_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nested_functions_are_found),
        cmocka_unit_test(threads_that_were_there_before_are_walked),
        cmocka_unit_test(a_child_after_fork_is_walked),
        cmocka_unit_test(handlers_on_other_stacks_are_walked),
#if defined(__GLIBC__) && !VA_TSAN
        cmocka_unit_test(fibres_are_walked),
#endif
        cmocka_unit_test(chains_end_at_what_is_no_frame),
    };
    return cmocka_run_group_tests_name("stack_walk", tests, NULL, NULL);
}
