/* controls.c: the table of mallctl's names, and what they read and do.
 *
 * valloc has one purge delay, one background thread and one profile for the whole process, and no
 * function tells their settings. So what can be set reads as what mallctl has set last, and before
 * that as valloc's default. */
#include "controls.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arenas.h"
#include "figures.h"
#include "valloc_jemalloc.h"

#define PURGE_DELAY_MS 200
/* For a delay of -1, never: 35 years. */
#define NEVER_MS ((size_t)1 << 40)
#define LG_PROF_SAMPLE 19

/* ---- Statistics ---- */

static int read_epoch(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control, (void)index;
    *value = va_jemalloc_figures_epoch();
    return 0;
}

static int write_epoch(const ControlIndex index, uint64_t value)
{
    (void)index, (void)value;
    va_jemalloc_figures_refresh();
    return 0;
}

/* The constant of these is a member of Figures or of ClassFigures. */
static uint64_t member(const void *figures, const Control *control)
{
    size_t value;
    memcpy(&value, (const char *)figures + control->constant, sizeof(value));
    return value;
}

static int read_arena(const Control *control, const ControlIndex index, uint64_t *value)
{
    Figures figures;
    int error = va_jemalloc_figures_arena(index[0], &figures);
    if (error == 0)
        *value = member(&figures, control);
    return error;
}

static int read_all(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)index;
    return read_arena(control, (ControlIndex){MALLCTL_ARENAS_ALL}, value);
}

static int read_arena_pages(const Control *control, const ControlIndex index, uint64_t *value)
{
    int error = read_arena(control, index, value);
    if (error == 0)
        *value /= (uint64_t)sysconf(_SC_PAGESIZE);
    return error;
}

static int read_class(size_t class, size_t classes, const Control *control, size_t arena,
                      uint64_t *value)
{
    ClassFigures figures;
    int error = class < classes ? va_jemalloc_figures_class(arena, class, &figures) : ENOENT;
    if (error == 0)
        *value = member(&figures, control);
    return error;
}

static int read_bin(const Control *control, const ControlIndex index, uint64_t *value)
{
    return read_class(index[1], va_jemalloc_figures_slots(), control, index[0], value);
}

static int read_run(const Control *control, const ControlIndex index, uint64_t *value)
{
    return read_class(va_jemalloc_figures_slots() + index[1], va_jemalloc_figures_classes(),
                      control, index[0], value);
}

/* ---- Sizes ---- */

static int read_page(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control, (void)index;
    *value = (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

static int read_bins(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control, (void)index;
    *value = va_jemalloc_figures_slots();
    return 0;
}

static int read_runs(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control, (void)index;
    *value = va_jemalloc_figures_classes() - va_jemalloc_figures_slots();
    return 0;
}

static int read_bin_bytes(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control;
    if (index[0] >= va_jemalloc_figures_slots())
        return ENOENT;
    *value = va_jemalloc_figures_class_bytes(index[0]);
    return 0;
}

static int read_bin_slots(const Control *control, const ControlIndex index, uint64_t *value)
{
    int error = read_bin_bytes(control, index, value);
    if (error == 0)
        *value = VALLOC_BLOCK_BYTES / *value;
    return error;
}

static int read_run_bytes(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control;
    if (index[0] >= va_jemalloc_figures_classes() - va_jemalloc_figures_slots())
        return ENOENT;
    *value = va_jemalloc_figures_class_bytes(va_jemalloc_figures_slots() + index[0]);
    return 0;
}

/* ---- Arenas and thread caches ---- */

static int read_arenas(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control, (void)index;
    *value = va_jemalloc_arenas_count();
    return 0;
}

static int create_arena(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control, (void)index;
    return va_jemalloc_arenas_create(value);
}

static int read_initialized(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control;
    *value = index[0] == MALLCTL_ARENAS_ALL || va_jemalloc_arenas_find(index[0]) != NULL;
    return index[0] == MALLCTL_ARENAS_ALL || index[0] < va_jemalloc_arenas_count() ? 0 : ENOENT;
}

static int reset_arena(const ControlIndex index, uint64_t value)
{
    (void)value;
    return va_jemalloc_arenas_destroy(index[0], true);
}

static int destroy_arena(const ControlIndex index, uint64_t value)
{
    (void)value;
    return va_jemalloc_arenas_destroy(index[0], false);
}

/* The number of arenas means all of them: older versions of jemalloc had it so, and Redis does. */
static int purge(const ControlIndex index, uint64_t value)
{
    (void)value;
    if (index[0] != MALLCTL_ARENAS_ALL && index[0] != va_jemalloc_arenas_count() &&
        va_jemalloc_arenas_find(index[0]) == NULL)
        return ENOENT;
    valloc_purge();
    return 0;
}

static int visit_none(const MemoryBlock *block, void *context)
{
    (void)block, (void)context;
    return 1;
}

/* A walk over the blocks begins with a flush of the thread's cache. */
static int flush_thread(const ControlIndex index, uint64_t value)
{
    (void)index, (void)value;
    valloc_blocks(valloc_process(), visit_none, NULL);
    return 0;
}

/* Explicit caches have no memory: each thread has its own, whatever MALLOCX_TCACHE says. */
static _Atomic unsigned explicit_caches; /* relaxed: a bare number */

static int create_cache(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control, (void)index;
    *value = atomic_fetch_add_explicit(&explicit_caches, 1, memory_order_relaxed);
    return 0;
}

static int ignore_cache(const ControlIndex index, uint64_t value)
{
    (void)index;
    unsigned made = atomic_load_explicit(&explicit_caches, memory_order_relaxed);
    return value < made ? 0 : EFAULT;
}

/* ---- Settings: relaxed atomics, as each is a bare value ---- */

static _Atomic int64_t decay_ms = PURGE_DELAY_MS;
static _Atomic bool background;
static _Atomic bool profiling;

static int read_decay(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control, (void)index;
    *value = (uint64_t)atomic_load_explicit(&decay_ms, memory_order_relaxed);
    return 0;
}

static int write_decay(const ControlIndex index, uint64_t value)
{
    (void)index;
    int64_t ms = (int64_t)value;
    if (ms < -1)
        return EFAULT;
    atomic_store_explicit(&decay_ms, ms, memory_order_relaxed);
    valloc_set_purge_delay(ms < 0 || value > NEVER_MS ? NEVER_MS : (size_t)ms);
    return 0;
}

static int read_background(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control, (void)index;
    *value = atomic_load_explicit(&background, memory_order_relaxed);
    return 0;
}

static int write_background(const ControlIndex index, uint64_t value)
{
    (void)index;
    atomic_store_explicit(&background, value != 0, memory_order_relaxed);
    valloc_background_purge(value != 0);
    return 0;
}

/* ---- The heap profile ---- */

static int read_profiling(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control, (void)index;
    *value = atomic_load_explicit(&profiling, memory_order_relaxed);
    return 0;
}

static int start_profile(size_t rate)
{
    if (valloc_profile_start(rate, VALLOC_PROFILE_LIVE) != 0 && errno != EBUSY)
        return errno == ENOMEM ? EAGAIN : EFAULT;
    atomic_store_explicit(&profiling, true, memory_order_relaxed);
    return 0;
}

/* The mean that the next profile has: what prof.reset has set last. */
static _Atomic uint64_t lg_sample = LG_PROF_SAMPLE;

static int read_lg_sample(const Control *control, const ControlIndex index, uint64_t *value)
{
    (void)control, (void)index;
    *value = atomic_load_explicit(&lg_sample, memory_order_relaxed);
    return 0;
}

static int write_profiling(const ControlIndex index, uint64_t value)
{
    (void)index;
    if (value != 0)
        return start_profile((size_t)1 << atomic_load_explicit(&lg_sample, memory_order_relaxed));
    valloc_profile_stop();
    atomic_store_explicit(&profiling, false, memory_order_relaxed);
    return 0;
}

/* Drops the samples. They go with the start of the next profile, with a mean of 2^value bytes; 0,
 * or nothing written, leaves the mean. */
static int reset_profile(const ControlIndex index, uint64_t value)
{
    (void)index;
    if (value >= 64)
        return EINVAL;
    bool on = atomic_load_explicit(&profiling, memory_order_relaxed);
    if (value != 0)
        atomic_store_explicit(&lg_sample, value, memory_order_relaxed);
    valloc_profile_stop();
    int error = write_profiling(index, 1);
    if (error == 0 && !on)
        write_profiling(index, 0);
    return error;
}

static int write_piece(void *file, const void *bytes, size_t count)
{
    return fwrite(bytes, 1, count, file) != count;
}

static int dump_profile(const ControlIndex index, uint64_t value)
{
    (void)index;
    static _Atomic unsigned dumps; /* relaxed: a bare number */
    char own_name[64];
    const char *name = (const char *)(uintptr_t)value;
    if (name == NULL) {
        unsigned number = atomic_fetch_add_explicit(&dumps, 1, memory_order_relaxed);
        snprintf(own_name, sizeof(own_name), "jeprof.%d.%u.m%u.heap", (int)getpid(), number,
                 number);
        name = own_name;
    }
    FILE *file = fopen(name, "w");
    if (file == NULL)
        return EFAULT;
    int failed = valloc_profile_dump(VALLOC_PROFILE_HEAP, write_piece, file);
    failed |= fclose(file);
    return failed != 0 ? EFAULT : 0;
}

/* ---- The table ---- */

/* clang-format off */
#define FLAG(name, value) {name, CONTROL_READ, 1, NULL, NULL, (value), NULL}
#define NUMBER(name, value) {name, CONTROL_READ, 4, NULL, NULL, (value), NULL}
#define WORD(name, value) {name, CONTROL_READ, 8, NULL, NULL, (uint64_t)(value), NULL}
#define STRING(name, value) {name, CONTROL_READ, 8, NULL, NULL, 0, (value)}
#define READS(name, bytes, read) {name, CONTROL_READ, bytes, read, NULL, 0, NULL}
#define STAT(name, read, of, field) {name, CONTROL_READ, 8, read, NULL, offsetof(of, field), NULL}
#define SETS(name, bytes, read, write) {name, CONTROL_READ_WRITE, bytes, read, write, 0, NULL}
#define COMMAND(name, write) {name, CONTROL_COMMAND, 0, NULL, write, 0, NULL}

const Control va_jemalloc_controls[] = {
    STRING("version", JEMALLOC_VERSION),
    {"epoch", CONTROL_REFRESH, 8, read_epoch, write_epoch, 0, NULL},
    SETS("background_thread", 1, read_background, write_background),
    WORD("max_background_threads", 1),

    FLAG("config.cache_oblivious", 0),
    FLAG("config.debug", 0),
    FLAG("config.fill", 0),
    FLAG("config.lazy_lock", 0),
    STRING("config.malloc_conf", ""),
    FLAG("config.opt_safety_checks", 1),
    FLAG("config.prof", 1),
    FLAG("config.prof_libgcc", 0),
    FLAG("config.prof_libunwind", 0),
    FLAG("config.stats", 1),
    FLAG("config.utrace", 0),
    FLAG("config.xmalloc", 0),

    FLAG("opt.abort", 1),
    FLAG("opt.abort_conf", 0),
    FLAG("opt.background_thread", 0),
    FLAG("opt.confirm_conf", 0),
    WORD("opt.dirty_decay_ms", PURGE_DELAY_MS),
    STRING("opt.dss", "disabled"),
    STRING("opt.junk", "false"),
    WORD("opt.lg_prof_interval", -1),
    WORD("opt.lg_prof_sample", LG_PROF_SAMPLE),
    WORD("opt.max_background_threads", 1),
    STRING("opt.metadata_thp", "disabled"),
    WORD("opt.muzzy_decay_ms", 0),
    NUMBER("opt.narenas", 1),
    STRING("opt.percpu_arena", "disabled"),
    FLAG("opt.prof", 1),
    FLAG("opt.prof_accum", 0),
    FLAG("opt.prof_active", 0),
    FLAG("opt.prof_final", 0),
    FLAG("opt.prof_gdump", 0),
    FLAG("opt.prof_leak", 0),
    STRING("opt.prof_prefix", "jeprof"),
    FLAG("opt.prof_thread_active_init", 1),
    FLAG("opt.retain", 1),
    FLAG("opt.stats_print", 0),
    FLAG("opt.tcache", 1),
    WORD("opt.tcache_max", 1 << 20),
    STRING("opt.thp", "default"),
    FLAG("opt.utrace", 0),
    FLAG("opt.xmalloc", 0),
    FLAG("opt.zero", 0),

    NUMBER("thread.arena", 0),
    COMMAND("thread.idle", flush_thread),
    FLAG("thread.tcache.enabled", 1),
    COMMAND("thread.tcache.flush", flush_thread),
    READS("tcache.create", 4, create_cache),
    {"tcache.flush", CONTROL_WRITE, 4, NULL, ignore_cache, 0, NULL},
    {"tcache.destroy", CONTROL_WRITE, 4, NULL, ignore_cache, 0, NULL},

    READS("arena.N.initialized", 1, read_initialized),
    COMMAND("arena.N.decay", purge),
    COMMAND("arena.N.purge", purge),
    COMMAND("arena.N.reset", reset_arena),
    COMMAND("arena.N.destroy", destroy_arena),
    STRING("arena.N.dss", "disabled"),
    SETS("arena.N.dirty_decay_ms", 8, read_decay, write_decay),
    WORD("arena.N.muzzy_decay_ms", 0),

    READS("arenas.create", 4, create_arena),
    READS("arenas.narenas", 4, read_arenas),
    SETS("arenas.dirty_decay_ms", 8, read_decay, write_decay),
    WORD("arenas.muzzy_decay_ms", 0),
    WORD("arenas.quantum", 16),
    READS("arenas.page", 8, read_page),
    WORD("arenas.tcache_max", 1 << 20),
    READS("arenas.nbins", 4, read_bins),
    READS("arenas.nhbins", 4, read_bins),
    READS("arenas.bin.N.size", 8, read_bin_bytes),
    READS("arenas.bin.N.nregs", 4, read_bin_slots),
    WORD("arenas.bin.N.slab_size", VALLOC_BLOCK_BYTES),
    READS("arenas.nlextents", 4, read_runs),
    READS("arenas.lextent.N.size", 8, read_run_bytes),

    SETS("prof.active", 1, read_profiling, write_profiling),
    {"prof.dump", CONTROL_WRITE_OR_NOTHING, 8, NULL, dump_profile, 0, NULL},
    {"prof.reset", CONTROL_WRITE_OR_NOTHING, 8, NULL, reset_profile, 0, NULL},
    READS("prof.lg_sample", 8, read_lg_sample),
    WORD("prof.interval", 0),
    FLAG("prof.gdump", 0),
    FLAG("prof.thread_active_init", 1),

    STAT("stats.allocated", read_all, Figures, allocated),
    STAT("stats.active", read_all, Figures, active),
    STAT("stats.metadata", read_all, Figures, metadata),
    WORD("stats.metadata_thp", 0),
    STAT("stats.resident", read_all, Figures, resident),
    STAT("stats.mapped", read_all, Figures, mapped),
    STAT("stats.retained", read_all, Figures, retained),
    {"stats.arenas.N.nthreads", CONTROL_READ, 4, read_arena, NULL, offsetof(Figures, threads), NULL},
    STRING("stats.arenas.N.dss", "disabled"),
    WORD("stats.arenas.N.muzzy_decay_ms", 0),
    READS("stats.arenas.N.dirty_decay_ms", 8, read_decay),
    STAT("stats.arenas.N.pactive", read_arena_pages, Figures, active),
    STAT("stats.arenas.N.pdirty", read_arena_pages, Figures, dirty),
    WORD("stats.arenas.N.pmuzzy", 0),
    STAT("stats.arenas.N.dirty_purged", read_arena_pages, Figures, purged),
    WORD("stats.arenas.N.muzzy_purged", 0),
    STAT("stats.arenas.N.mapped", read_arena, Figures, mapped),
    STAT("stats.arenas.N.retained", read_arena, Figures, retained),
    STAT("stats.arenas.N.resident", read_arena, Figures, resident),
    STAT("stats.arenas.N.internal", read_arena, Figures, metadata),
    STAT("stats.arenas.N.tcache_bytes", read_arena, Figures, cached),
    STAT("stats.arenas.N.small.allocated", read_arena, Figures, small),
    STAT("stats.arenas.N.large.allocated", read_arena, Figures, large),
    STAT("stats.arenas.N.bins.N.curregs", read_bin, ClassFigures, used),
    STAT("stats.arenas.N.bins.N.curslabs", read_bin, ClassFigures, slabs),
    STAT("stats.arenas.N.lextents.N.curlextents", read_run, ClassFigures, used),
};
/* clang-format on */

const size_t va_jemalloc_controls_count =
    sizeof(va_jemalloc_controls) / sizeof(va_jemalloc_controls[0]);
