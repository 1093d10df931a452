/* test_jemalloc.c: jemalloc's functions and mallctl, as the programs use them that read them. Run
 * on valloc's static library with c/jemalloc, and on libvalloc-jemalloc.so. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "valloc.h"
#include "valloc_jemalloc.h"

static size_t get_size(const char *name)
{
    size_t value = 0;
    size_t bytes = sizeof(value);
    assert_int_equal(mallctl(name, &value, &bytes, NULL, 0), 0);
    assert_int_equal(bytes, sizeof(value));
    return value;
}

static unsigned get_unsigned(const char *name)
{
    unsigned value = 0;
    size_t bytes = sizeof(value);
    assert_int_equal(mallctl(name, &value, &bytes, NULL, 0), 0);
    assert_int_equal(bytes, sizeof(value));
    return value;
}

static bool get_bool(const char *name)
{
    bool value = false;
    size_t bytes = sizeof(value);
    assert_int_equal(mallctl(name, &value, &bytes, NULL, 0), 0);
    return value;
}

static const char *get_string(const char *name)
{
    const char *value = NULL;
    size_t bytes = sizeof(value);
    assert_int_equal(mallctl(name, &value, &bytes, NULL, 0), 0);
    assert_non_null(value);
    return value;
}

static size_t get_of_arena(unsigned arena, const char *rest)
{
    char name[100];
    snprintf(name, sizeof(name), "stats.arenas.%u.%s", arena, rest);
    return get_size(name);
}

static uint64_t refresh(void)
{
    uint64_t epoch = 1;
    size_t bytes = sizeof(epoch);
    assert_int_equal(mallctl("epoch", &epoch, &bytes, &epoch, bytes), 0);
    return epoch;
}

static int run(const char *name)
{
    return mallctl(name, NULL, NULL, NULL, 0);
}

/* ---- Allocation ---- */

static volatile size_t too_much = SIZE_MAX / 4 * 3; /* the compiler does not know */

static void sizes_are_foretold(void **state)
{
    (void)state;
    for (int lg = 0; lg <= 21; lg++) {
        for (size_t size = 1; size < (3u << 20); size += 1 + size / 7) {
            int flags = MALLOCX_LG_ALIGN(lg);
            char *block = mallocx(size, flags);
            assert_non_null(block);
            assert_int_equal((uintptr_t)block & (((uintptr_t)1 << lg) - 1), 0);
            assert_true(sallocx(block, 0) >= size);
#if WATCHED_BYTES == 0
            assert_int_equal(nallocx(size, flags), sallocx(block, 0));
#endif
            block[0] = 1;
            block[size - 1] = 1;
            sdallocx(block, size, flags);
        }
    }
    assert_int_equal(nallocx(SIZE_MAX, 0), 0);
    assert_int_equal(nallocx(1, MALLOCX_LG_ALIGN(63)), 0);
    assert_null(mallocx(too_much, 0));
    assert_null(mallocx(too_much, MALLOCX_ZERO));
    assert_null(mallocx(1, MALLOCX_LG_ALIGN(63)));
}

static void assert_zero(const char *bytes, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        assert_int_equal(bytes[i], 0);
}

static void new_bytes_are_zero(void **state)
{
    (void)state;
    for (int lg = 0; lg <= 12; lg += 6) {
        int flags = MALLOCX_ZERO | MALLOCX_LG_ALIGN(lg) | MALLOCX_TCACHE_NONE;
        for (size_t size = 8; size < 200000; size *= 3) {
            /* What was there is not zero. */
            char *former = mallocx(size * 3, flags);
            memset(former, 1, size * 3);
            dallocx(former, 0);
            char *block = mallocx(size, flags);
            assert_zero(block, 0, size);
            size_t usable = sallocx(block, 0);
            memset(block, 7, usable);
            block = rallocx(block, size * 3, flags);
            assert_int_equal(block[0], 7);
            assert_int_equal(block[usable - 1], 7);
            assert_zero(block, usable, size * 3);
            dallocx(block, flags);
        }
    }
    char *small = mallocx(100, 0);
    assert_null(rallocx(small, too_much, 0));
    dallocx(small, 0);
}

static void grows_in_place_or_not(void **state)
{
    (void)state;
    char *block = mallocx(3 << 20, 0);
    size_t usable = sallocx(block, 0);
    memset(block, 1, usable);
    assert_int_equal(xallocx(block, 1 << 20, 0, 0), usable); /* it never shrinks */
    size_t grown = xallocx(block, usable, 100, MALLOCX_ZERO);
    assert_true(grown == usable || grown >= usable + 100);
    assert_int_equal(grown, sallocx(block, 0));
    assert_zero(block, usable, grown);
    assert_true(xallocx(block, (size_t)1 << 50, 0, 0) < (size_t)1 << 50);
    assert_int_equal(block[usable - 1], 1);
    dallocx(block, 0);

    block = mallocx(100, 0);
    usable = sallocx(block, 0);
    assert_int_equal(xallocx(block, 100, 1000000, 0), usable);
    assert_int_equal(xallocx(block, 100, 0, MALLOCX_LG_ALIGN(40)), usable);
    dallocx(block, 0);
}

static void hint_is_given(void **state)
{
    (void)state;
    void *block = mallocx(100, 0);
    assert_in_range(je_get_defrag_hint(block), 0, 1);
    dallocx(block, 0);
}

/* ---- Names and errors ---- */

static void names_have_their_types(void **state)
{
    static const char *const flags[] = {"background_thread",
                                        "config.debug",
                                        "config.prof",
                                        "config.stats",
                                        "opt.abort",
                                        "opt.background_thread",
                                        "opt.prof",
                                        "opt.retain",
                                        "opt.tcache",
                                        "opt.zero",
                                        "arena.0.initialized",
                                        "prof.active",
                                        "prof.gdump",
                                        "thread.tcache.enabled",
                                        "prof.thread_active_init"};
    static const char *const numbers[] = {
        "arenas.narenas", "arenas.nbins", "arenas.nlextents",       "arenas.bin.0.nregs",
        "opt.narenas",    "thread.arena", "stats.arenas.0.nthreads"};
    static const char *const words[] = {"arenas.page",
                                        "arenas.quantum",
                                        "arenas.bin.0.size",
                                        "arenas.dirty_decay_ms",
                                        "arena.0.dirty_decay_ms",
                                        "opt.dirty_decay_ms",
                                        "opt.lg_prof_sample",
                                        "max_background_threads",
                                        "stats.allocated",
                                        "stats.active",
                                        "stats.metadata",
                                        "stats.resident",
                                        "stats.mapped",
                                        "stats.retained",
                                        "prof.lg_sample",
                                        "stats.arenas.0.pactive",
                                        "stats.arenas.0.pdirty",
                                        "stats.arenas.0.mapped",
                                        "stats.arenas.0.resident",
                                        "stats.arenas.4096.dirty_purged",
                                        "stats.arenas.4096.bins.0.curregs"};
    (void)state;
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        get_bool(flags[i]);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        get_unsigned(numbers[i]);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        get_size(words[i]);
#if WATCHED_BYTES == 0 /* where a tool watches each size is a class of its own */
    get_size("arenas.lextent.0.size");
    get_size("stats.arenas.4096.lextents.0.curlextents");
#endif
    assert_string_equal(get_string("version"), JEMALLOC_VERSION);
    assert_string_equal(get_string("opt.dss"), "disabled");
    assert_int_equal(get_size("arenas.page"), sysconf(_SC_PAGESIZE));
}

static void others_do_not_exist(void **state)
{
    static const char *const unknown[] = {"",
                                          ".",
                                          "stat",
                                          "stats",
                                          "stats.",
                                          "stats.allocate",
                                          "stats.allocated.",
                                          "stats.allocatedd",
                                          "thread.allocated",
                                          "thread.allocatedp",
                                          "arenas.bin.N.size",
                                          "arenas.bin..size",
                                          "arenas.bin.x.size",
                                          "arenas.bin.1000.size",
                                          "arenas.lextent.1000.size",
                                          "arenas.bin.99999999999999999999999.size",
                                          "arenas.bin.-1.size",
                                          "arena.77.initialized",
                                          "stats.arenas.77.pactive",
                                          "stats.arenas.4096.bins.1000.curregs",
                                          "arena.0.extent_hooks",
                                          "experimental.utilization.batch_query"};
    (void)state;
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        size_t value = 12345;
        size_t bytes = sizeof(value);
        assert_int_equal(mallctl(unknown[i], &value, &bytes, NULL, 0), ENOENT);
        assert_int_equal(value, 12345);
    }
    assert_int_equal(mallctl(NULL, NULL, NULL, NULL, 0), ENOENT);
    assert_int_equal(run("arena.77.purge"), ENOENT);
    assert_int_equal(run("arena.77.destroy"), ENOENT);
}

static void wrong_lengths_are_told(void **state)
{
    (void)state;
    unsigned char value[16];
    memset(value, 0xee, sizeof(value));
    size_t bytes = 4;
    assert_int_equal(mallctl("arenas.quantum", value, &bytes, NULL, 0), EINVAL);
    assert_int_equal(bytes, 4); /* as much as fits */
    assert_int_equal(value[0], 16);
    assert_int_equal(value[4], 0xee);
    bytes = 16;
    assert_int_equal(mallctl("arenas.quantum", value, &bytes, NULL, 0), EINVAL);
    assert_int_equal(bytes, 8);
    assert_int_equal(value[8], 0xee);

    uint64_t before = refresh();
    assert_int_equal(mallctl("epoch", NULL, NULL, value, 4), EINVAL);
    assert_int_equal(refresh(), before + 1);
    assert_int_equal(mallctl("tcache.destroy", NULL, NULL, NULL, 0), EINVAL);
}

static void what_is_not_allowed(void **state)
{
    (void)state;
    size_t value = 1;
    size_t bytes = sizeof(value);
    assert_int_equal(mallctl("stats.allocated", NULL, NULL, &value, bytes), EPERM);
    assert_int_equal(mallctl("arenas.page", &value, &bytes, &value, bytes), EPERM);
    assert_int_equal(mallctl("thread.tcache.flush", &value, &bytes, NULL, 0), EPERM);
    assert_int_equal(mallctl("arena.0.purge", NULL, NULL, &value, bytes), EPERM);
    assert_int_equal(mallctl("tcache.flush", &value, &bytes, NULL, 0), EPERM);
    assert_int_equal(mallctl("prof.dump", &value, &bytes, NULL, 0), EPERM);
    assert_int_equal(run("arena.0.destroy"), EFAULT);
    ssize_t delay = -2;
    assert_int_equal(mallctl("arenas.dirty_decay_ms", NULL, NULL, &delay, sizeof(delay)), EFAULT);
    assert_int_equal(mallctl("stats.allocated", NULL, NULL, NULL, 0), 0); /* it exists */
}

static void numbers_replace_names(void **state)
{
    (void)state;
    size_t mib[8];
    size_t length = 8;
    assert_int_equal(mallctlnametomib("arenas.bin.0.size", mib, &length), 0);
    assert_int_equal(length, 4);
    size_t former = 0;
    for (mib[2] = 0; mib[2] < get_unsigned("arenas.nbins"); mib[2]++) {
        size_t size;
        size_t bytes = sizeof(size);
        assert_int_equal(mallctlbymib(mib, length, &size, &bytes, NULL, 0), 0);
        assert_true(size > former);
        assert_int_equal(nallocx(size, 0), size);
        if (former != 0)
            assert_int_equal(nallocx(former + 1, 0), size);
        former = size;
    }
    size_t size;
    size_t bytes = sizeof(size);
    assert_int_equal(mallctlbymib(mib, length, &size, &bytes, NULL, 0), ENOENT);
    mib[2] = 0;
    assert_int_equal(mallctlbymib(mib, length - 1, &size, &bytes, NULL, 0), ENOENT);
    assert_int_equal(mallctlbymib(mib, length + 1, &size, &bytes, NULL, 0), ENOENT);
    assert_int_equal(mallctlbymib(mib, 0, &size, &bytes, NULL, 0), ENOENT);
    mib[0] = 100000;
    assert_int_equal(mallctlbymib(mib, length, &size, &bytes, NULL, 0), ENOENT);

    length = 2; /* no more than there is room for */
    mib[2] = 77;
    assert_int_equal(mallctlnametomib("stats.arenas.5.pactive", mib, &length), 0);
    assert_int_equal(length, 2);
    assert_int_equal(mib[2], 77);
    length = 8;
    assert_int_equal(mallctlnametomib("stats.arenas.5.bins.9.curregs", mib, &length), 0);
    assert_int_equal(length, 6);
    assert_int_equal(mib[2], 5);
    assert_int_equal(mib[4], 9);
    assert_int_equal(mallctlnametomib("stats.nothing", mib, &length), ENOENT);
}

/* ---- Statistics ---- */

static void figures_are_of_the_last_refresh(void **state)
{
    (void)state;
    uint64_t epoch = refresh();
    size_t before = get_size("stats.allocated");
    char *block = mallocx(8 << 20, 0);
    memset(block, 1, 8 << 20);
    assert_int_equal(get_size("stats.allocated"), before);
    assert_int_equal(refresh(), epoch + 1);
    size_t allocated = get_size("stats.allocated");
    assert_true(allocated >= before + (8 << 20));
    assert_true(get_size("stats.active") >= allocated);
    assert_true(get_size("stats.resident") >= get_size("stats.active"));
    assert_true(get_size("stats.mapped") >= get_size("stats.active"));
    assert_int_equal(get_size("stats.active") % get_size("arenas.page"), 0);
    assert_int_equal(get_of_arena(MALLCTL_ARENAS_ALL, "pactive") * get_size("arenas.page"),
                     get_size("stats.active"));
    assert_int_equal(get_of_arena(MALLCTL_ARENAS_ALL, "small.allocated") +
                         get_of_arena(MALLCTL_ARENAS_ALL, "large.allocated"),
                     allocated);
    dallocx(block, 0);
    assert_int_equal(get_size("stats.allocated"), allocated);
    refresh();
    assert_true(get_size("stats.allocated") < allocated);
}

/* As Redis computes what slabs lose. */
static void slabs_hold_what_is_in_use(void **state)
{
    (void)state;
    void *blocks[1000];
    for (size_t i = 0; i < 1000; i++)
        blocks[i] = mallocx(1 + i, 0);
    refresh();
    size_t total = 0;
    for (unsigned bin = 0; bin < get_unsigned("arenas.nbins"); bin++) {
        char name[100];
        snprintf(name, sizeof(name), "arenas.bin.%u.nregs", bin);
        size_t slots = get_unsigned(name);
        snprintf(name, sizeof(name), "bins.%u.curregs", bin);
        size_t live = get_of_arena(MALLCTL_ARENAS_ALL, name);
        snprintf(name, sizeof(name), "bins.%u.curslabs", bin);
        assert_true(slots * get_of_arena(MALLCTL_ARENAS_ALL, name) >= live);
        total += live;
    }
#if WATCHED_BYTES == 0
    assert_true(total >= 1000);
#endif
    for (size_t i = 0; i < 1000; i++)
        dallocx(blocks[i], 0);
}

static void add_length(void *context, const char *text)
{
    *(size_t *)context += strlen(text);
    if (strchr(text, '{') != NULL)
        *(size_t *)context |= (size_t)1 << 40;
}

static void statistics_are_printed(void **state)
{
    (void)state;
    size_t text = 0;
    malloc_stats_print(add_length, &text, "gm");
    assert_in_range(text, 100, 1000000);
    size_t json = 0;
    malloc_stats_print(add_length, &json, "Jmdablxeg");
    assert_true((json & (size_t)1 << 40) != 0);
}

/* ---- Arenas and caches ---- */

static unsigned create(const char *what)
{
    unsigned number = 0;
    size_t bytes = sizeof(number);
    assert_int_equal(mallctl(what, &number, &bytes, NULL, 0), 0);
    return number;
}

static void arenas_are_allocators(void **state)
{
    (void)state;
    unsigned arena = create("arenas.create");
    assert_int_equal(arena, 1);
    assert_int_equal(get_unsigned("arenas.narenas"), 2);
    int flags = MALLOCX_ARENA(arena) | MALLOCX_TCACHE(create("tcache.create"));
    char *block = mallocx(1000, flags | MALLOCX_ZERO);
    assert_zero(block, 0, 1000);
    assert_ptr_not_equal(valloc_owner(block), valloc_process());
    MemoryAllocator *owner = valloc_owner(block);
    block = rallocx(block, 100000, flags);
    assert_ptr_equal(valloc_owner(block), owner);
    char *aligned = mallocx(100, flags | MALLOCX_ALIGN(4096));
    assert_int_equal((uintptr_t)aligned % 4096, 0);
    refresh();
    assert_true(get_of_arena(arena, "large.allocated") >= 100000);
    assert_true(get_of_arena(arena, "small.allocated") >= 100);
    assert_true(get_of_arena(arena, "pactive") * get_size("arenas.page") >= 100100);
    dallocx(block, flags);
    refresh();
    assert_true(get_of_arena(arena, "large.allocated") < 100000);
    sdallocx(mallocx(500, flags), 500, flags);
    sdallocx(aligned, 100, flags | MALLOCX_ALIGN(4096));
    assert_non_null(mallocx(100, flags));

    assert_int_equal(run("arena.1.reset"), 0);
    refresh();
    assert_int_equal(get_of_arena(arena, "small.allocated"), 0);
    assert_non_null(mallocx(100, flags));
    assert_int_equal(run("arena.1.destroy"), 0);
    assert_false(get_bool("arena.1.initialized"));
    assert_null(mallocx(100, flags));
    assert_int_equal(run("arena.1.destroy"), ENOENT);
    assert_int_equal(create("arenas.create"), arena); /* its number again */
    assert_int_equal(run("arena.1.destroy"), 0);
}

static void caches_are_flushed(void **state)
{
    (void)state;
    for (size_t i = 0; i < 1000; i++)
        dallocx(mallocx(1 + i * 7, 0), 0);
    assert_int_equal(run("thread.tcache.flush"), 0);
    refresh();
    assert_true(get_of_arena(MALLCTL_ARENAS_ALL, "tcache_bytes") < 100000);
    assert_int_equal(run("thread.idle"), 0);
    unsigned cache = create("tcache.create");
    assert_int_equal(mallctl("tcache.flush", NULL, NULL, &cache, sizeof(cache)), 0);
    assert_int_equal(mallctl("tcache.destroy", NULL, NULL, &cache, sizeof(cache)), 0);
    cache = 1000000;
    assert_int_equal(mallctl("tcache.flush", NULL, NULL, &cache, sizeof(cache)), EFAULT);
}

static void memory_is_purged(void **state)
{
    (void)state;
    char *block = mallocx(900000, 0);
    memset(block, 1, 900000);
    dallocx(block, 0);
    char name[40];
    snprintf(name, sizeof(name), "arena.%u.purge", get_unsigned("arenas.narenas")); /* as Redis */
    assert_int_equal(run(name), 0);
    refresh();
    assert_int_equal(get_of_arena(MALLCTL_ARENAS_ALL, "pdirty"), 0);
    assert_int_equal(run("arena.4096.purge"), 0);
    assert_int_equal(run("arena.0.decay"), 0);
}

/* ---- Settings and the profile ---- */

static void settings_are_kept(void **state)
{
    (void)state;
    ssize_t delay = 5000;
    ssize_t former = 0;
    size_t bytes = sizeof(former);
    assert_int_equal(mallctl("arenas.dirty_decay_ms", &former, &bytes, &delay, sizeof(delay)), 0);
    assert_int_equal(former, 200);
    assert_int_equal(get_size("arena.0.dirty_decay_ms"), 5000);
    delay = -1;
    assert_int_equal(mallctl("arenas.dirty_decay_ms", NULL, NULL, &delay, sizeof(delay)), 0);
    assert_int_equal(mallctl("arenas.dirty_decay_ms", &delay, &bytes, &former, bytes), 0);
    assert_int_equal(delay, -1);

    bool on = true; /* as Redis: by a char, with a length that is not that of a pointer */
    assert_int_equal(mallctl("background_thread", NULL, NULL, &on, 1), 0);
    assert_true(get_bool("background_thread"));
    on = false;
    assert_int_equal(mallctl("background_thread", NULL, NULL, &on, 1), 0);
    assert_false(get_bool("background_thread"));
}

static void profiles_are_written(void **state)
{
    (void)state;
    char name[] = "/tmp/test_jemalloc-XXXXXX";
    const char *file = name;
    int descriptor = mkstemp(name);
    assert_int_not_equal(descriptor, -1);
    bool on = true;
    int error = mallctl("prof.active", NULL, NULL, &on, sizeof(on));
    if (error == EFAULT) { /* a build without the profiler */
        assert_false(get_bool("prof.active"));
        close(descriptor);
        unlink(name);
        skip();
    }
    assert_int_equal(error, 0);
    assert_true(get_bool("prof.active"));
    size_t lg = 12;
    assert_int_equal(mallctl("prof.reset", NULL, NULL, &lg, sizeof(lg)), 0);
    assert_int_equal(get_size("prof.lg_sample"), 12);
    void *block = mallocx(10 << 20, 0);
    assert_int_equal(mallctl("prof.dump", NULL, NULL, &file, sizeof(file)), 0);
    char text[40] = "";
    assert_true(read(descriptor, text, sizeof(text) - 1) > 20);
    assert_int_equal(strncmp(text, "heap profile: ", 14), 0);
    dallocx(block, 0);
    file = "/nowhere/at/all";
    assert_int_equal(mallctl("prof.dump", NULL, NULL, &file, sizeof(file)), EFAULT);
    on = false;
    assert_int_equal(mallctl("prof.active", NULL, NULL, &on, sizeof(on)), 0);
    assert_false(get_bool("prof.active"));
    assert_int_equal(mallctl("prof.reset", NULL, NULL, NULL, 0), 0);
    assert_int_equal(get_size("prof.lg_sample"), 12);
    assert_false(get_bool("prof.active"));
    lg = 64;
    assert_int_equal(mallctl("prof.reset", NULL, NULL, &lg, sizeof(lg)), EINVAL);
    close(descriptor);
    unlink(name);
}

static void children_go_on(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        uint64_t epoch = 1;
        size_t bytes = sizeof(epoch);
        unsigned arena = 0;
        size_t arena_bytes = sizeof(arena);
        bool good = mallctl("epoch", &epoch, &bytes, &epoch, bytes) == 0 &&
                    mallctl("arenas.create", &arena, &arena_bytes, NULL, 0) == 0 &&
                    mallctl("stats.allocated", &epoch, &bytes, NULL, 0) == 0;
        _exit(good ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_foretold),
        cmocka_unit_test(new_bytes_are_zero),
        cmocka_unit_test(grows_in_place_or_not),
        cmocka_unit_test(hint_is_given),
        cmocka_unit_test(names_have_their_types),
        cmocka_unit_test(others_do_not_exist),
        cmocka_unit_test(wrong_lengths_are_told),
        cmocka_unit_test(what_is_not_allowed),
        cmocka_unit_test(numbers_replace_names),
        cmocka_unit_test(figures_are_of_the_last_refresh),
        cmocka_unit_test(slabs_hold_what_is_in_use),
        cmocka_unit_test(statistics_are_printed),
        cmocka_unit_test(arenas_are_allocators),
        cmocka_unit_test(caches_are_flushed),
        cmocka_unit_test(memory_is_purged),
        cmocka_unit_test(settings_are_kept),
        cmocka_unit_test(profiles_are_written),
        cmocka_unit_test(children_go_on),
    };
    return cmocka_run_group_tests_name("jemalloc", tests, NULL, NULL);
}
