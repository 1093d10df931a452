/* test_in_flight.c: what happens while one thread is purging, which here takes as long as the test
 * wants: others allocate, fork, purge; and when it is refused. Each case in a process of its own.
 */
#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "child.h"
#include "simulated.h"

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

#include "heap/allocator.h"

#define MIB ((size_t)1 << 20)

static valloc_stats stats_now(void)
{
    valloc_stats stats;
    valloc_get_stats(&stats);
    return stats;
}

static void *filled(size_t size)
{
    char *block = valloc_malloc(size);
    require(block != NULL);
    memset(block, 1, size);
    return block;
}

static void *purge(void *unused)
{
    (void)unused;
    valloc_purge();
    return NULL;
}

static void *free_block(void *block)
{
    valloc_free(block);
    return NULL;
}

/* What is left to be purged: frees of large blocks give pages back, if they can, and the thread
 * keeps the last one. */
static void free_dirty(void *block)
{
    test_no_purge = true;
    valloc_free(block);
    valloc_purge();
    test_no_purge = false;
}

static pthread_t start(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    require(pthread_create(&thread, NULL, body, argument) == 0);
    return thread;
}

/* Starts a thread whose purge is held. */
static pthread_t start_held(void *(*body)(void *), void *argument)
{
    test_hold = true;
    pthread_t thread = start(body, argument);
    while (test_held == 0)
        let_others_run();
    return thread;
}

static void let_go(pthread_t thread)
{
    test_hold = false;
    pthread_join(thread, NULL);
}

static void *open_later(void *unused)
{
    (void)unused;
    for (int i = 0; i < 100; i++) /* most likely they wait by then */
        let_others_run();
    test_hold = false;
    return NULL;
}

static void *allocate_48(void *unused)
{
    (void)unused;
    return valloc_malloc(48 * MIB);
}

/* All free memory is being purged, and the kernel grants no more: the purge is waited for. */
static void ask_for_what_is_purged(void *unused)
{
    pthread_t threads[2];
    void *blocks[2] = {filled(48 * MIB), filled(48 * MIB)};
    (void)unused;
    filled(1 * MIB); /* at the end of the heap they would be unmapped */
    free_dirty(blocks[0]);
    free_dirty(blocks[1]);
    test_no_growth = true;
    pthread_t purger = start_held(purge, NULL);
    pthread_t opener = start(open_later, NULL);
    for (int i = 0; i < 2; i++)
        threads[i] = start(allocate_48, NULL);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], &blocks[i]);
        require(blocks[i] != NULL);
    }
    require(blocks[0] != blocks[1]);
    pthread_join(opener, NULL);
    let_go(purger);
}

/* What is freed beyond the soft limit does not count for the hard one while it is purged. (Secure
 * builds clear it first, by a purge before it is given up.) */
static void ask_at_the_hard_limit(void *unused)
{
    (void)unused;
    if (SECURED_BYTES != 0)
        return;
    require(valloc_set_limits(valloc_process(), 1 * MIB, 128 * MIB) == 0);
    void *block = filled(100 * MIB);
    pthread_t thread = start_held(free_block, block);
    pthread_t opener = start(open_later, NULL);
    void *second = valloc_malloc(100 * MIB);
    require(second != NULL);
    require(valloc_malloc(100 * MIB) == NULL);
    pthread_join(opener, NULL);
    let_go(thread);
    valloc_free(second);
}

/* The memory that the child can lend is what the parent could, without any more commit. */
static void check_child(size_t lent, size_t rest)
{
    test_hold = false;
    test_no_growth = true;
    require(stats_now().lent == lent);
    require(valloc_process()->total_blocks << 16 == lent);
    void *block = valloc_malloc(rest);
    require(block != NULL);
    memset(block, 2, rest);
    valloc_free(block);
    valloc_purge();
    require(stats_now().lent <= lent);
    _exit(0);
}

static void fork_and_check(size_t lent, size_t rest)
{
    int status = -1;
    pthread_t opener = start(open_later, NULL);
    pid_t pid = fork();
    if (pid == 0)
        check_child(lent, rest);
    require(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    pthread_join(opener, NULL);
}

static void fork_while_free_runs_are_purged(void *unused)
{
    (void)unused;
    void *block = filled(48 * MIB);
    valloc_free(block);
    valloc_purge();
    memset(filled(1 * MIB), 1, 1);
    size_t lent = stats_now().lent;
    block = filled(48 * MIB);
    lent -= stats_now().lent;
    filled(1 * MIB); /* behind it, or it would be unmapped */
    lent += stats_now().lent;
    free_dirty(block);
    pthread_t purger = start_held(purge, NULL);
    fork_and_check(lent, 48 * MIB);
    let_go(purger);
    fork_and_check(lent, 48 * MIB);
}

static void fork_while_excess_is_purged(void *unused)
{
    (void)unused;
    if (SECURED_BYTES != 0)
        return;
    memset(filled(1 * MIB), 1, 1);
    require(valloc_set_limits(valloc_process(), 1 * MIB, 0) == 0);
    void *block = filled(100 * MIB);
    size_t lent = stats_now().lent - 100 * MIB + MIB;
    filled(1 * MIB);
    pthread_t thread = start_held(free_block, block);
    fork_and_check(lent, 100 * MIB);
    let_go(thread);
    fork_and_check(lent, 100 * MIB);
}

static void what_is_refused_is_not_counted(void *unused)
{
    (void)unused;
    free_dirty(filled(48 * MIB));
    size_t purged = stats_now().purged;
    test_no_purge = true;
    require(valloc_purge() == 0);
    require(stats_now().purged == purged);
    test_no_purge = false;
    require(valloc_purge() >= 48 * MIB);
}

/* A batch for another owner that a vanished thread has filled and not sent yet. */
static void *free_behind_a_full_batch(void *argument)
{
    char **slots = argument;
    ThreadCache *cache = NULL;
    for (size_t i = 0; i < VA_OUTGOING_SLOTS - 1; i++) {
        valloc_free(slots[i]);
        cache = (ThreadCache *)va_thread_front;
    }
    Outgoing *outgoing = &cache->outgoing.batches[1 % VA_OUTGOING_BATCHES];
    uint32_t next[2] = {outgoing[1].owner, outgoing[1].count};
    require(outgoing->owner == 1 && outgoing->count == VA_OUTGOING_SLOTS - 1);
    outgoing->slots[outgoing->count++] = slots[VA_OUTGOING_SLOTS - 1];
    valloc_free(slots[VA_OUTGOING_SLOTS]);
    require(outgoing->count == 1 && outgoing[1].owner == next[0] && outgoing[1].count == next[1]);
    return NULL;
}

static void a_full_batch_is_sent_first(void *unused)
{
    static char *slots[VA_OUTGOING_SLOTS + 1];
    (void)unused;
    if (SECURED_BYTES != 0)
        return; /* where it waits in the quarantine first */
    for (size_t i = 0; i <= VA_OUTGOING_SLOTS; i++)
        require((slots[i] = valloc_malloc(16)) != NULL);
    require(((ThreadCache *)va_thread_front)->id == 1);
    pthread_join(start(free_behind_a_full_batch, slots), NULL);
    valloc_purge();
    require(stats_now().live == 0);
}

static void in_a_child(void **state)
{
    Child child = child_run(*(void (**)(void *)) * state, NULL);
    if (child.status != 0)
        fail_msg("status %x, said '%s'", child.status, child.text);
}

int main(void)
{
    static void (*cases[])(void *) = {ask_for_what_is_purged,          ask_at_the_hard_limit,
                                      fork_while_free_runs_are_purged, fork_while_excess_is_purged,
                                      what_is_refused_is_not_counted,  a_full_batch_is_sent_first};
    const struct CMUnitTest tests[] = {
        {"ask_for_what_is_purged", in_a_child, NULL, NULL, &cases[0]},
        {"ask_at_the_hard_limit", in_a_child, NULL, NULL, &cases[1]},
        {"fork_while_free_runs_are_purged", in_a_child, NULL, NULL, &cases[2]},
        {"fork_while_excess_is_purged", in_a_child, NULL, NULL, &cases[3]},
        {"what_is_refused_is_not_counted", in_a_child, NULL, NULL, &cases[4]},
        {"a_full_batch_is_sent_first", in_a_child, NULL, NULL, &cases[5]},
    };
    stop_clock();
    return cmocka_run_group_tests_name("in flight", tests, NULL, NULL);
}
