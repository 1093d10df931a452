/* profile.c: see profile.h. The table stays when a profile stops, for dumps. */
#include "profile/profile.h"

#include "os/os.h"
#include "profile/dump.h"

Lock va_profile_lock;
_Atomic size_t va_profile_above = PTRDIFF_MAX;
_Atomic size_t va_profile_rate_bytes; /* written under va_profile_lock */

static struct {
    SampleTable *table;   /* va_profile_lock; NULL before the first start */
    size_t last_rate;     /* va_profile_lock */
    ProfileMode mode;     /* va_profile_lock */
    _Atomic size_t depth; /* written under the lock; relaxed: nothing else is read by it */
} profile;

/* The loader's lock may be held by a thread that the child after a fork has not. So a child uses
 * what was read last, at the start or for a dump. */
static VA_ARRAY_LAST Modules last_modules; /* va_profile_lock */
static bool is_child;                      /* written while it has one thread */

static VA_COLD bool make_table(void)
{
    if (profile.table != NULL && !va_os_unmap(profile.table, VA_SAMPLE_TABLE_BYTES))
        return false;
    profile.table = va_os_map(VA_SAMPLE_TABLE_BYTES);
    if (profile.table == NULL)
        return false;
    va_sample_table_init(profile.table);
    va_os_program_path(profile.table->program, sizeof profile.table->program - 1);
    return true;
}

static VA_COLD void find_modules(Dump *dump)
{
    if (!is_child)
        va_modules_read(&dump->modules, dump->table.program); /* without locks of ours */
    va_lock_acquire(&va_profile_lock);
    if (is_child)
        dump->modules = last_modules;
    else
        last_modules = dump->modules;
    va_lock_release(&va_profile_lock);
}

/* A dump with a copy of the table, NULL if there is none, or no memory. */
static VA_COLD Dump *open_dump(void)
{
    Dump *dump = va_os_map(VA_DUMP_BYTES);
    if (dump == NULL)
        return NULL;
    va_lock_acquire(&va_profile_lock);
    bool known = profile.table != NULL;
    if (known)
        va_sample_table_copy(&dump->table, profile.table);
    dump->rate = profile.last_rate;
    dump->mode = profile.mode;
    va_lock_release(&va_profile_lock);
    dump->now_ms = va_os_clock_ms();
    if (known)
        return dump;
    va_os_unmap(dump, VA_DUMP_BYTES);
    return NULL;
}

VA_COLD bool va_profile_start(size_t rate, ProfileMode mode, size_t depth)
{
    va_lock_acquire(&va_profile_lock);
    bool starts = va_profile_rate() == 0 && make_table();
    if (starts) {
        profile.last_rate = rate != 0 ? rate : VA_PROFILE_RATE_BYTES;
        depth = va_min(depth != 0 ? depth : VA_PROFILE_DEPTH, VA_PROFILE_DEPTH_MAX);
        atomic_store_explicit(&profile.depth, depth, memory_order_relaxed);
        profile.mode = mode;
        atomic_store_explicit(&va_profile_rate_bytes, profile.last_rate, memory_order_relaxed);
        atomic_store_explicit(&va_profile_above, 0, memory_order_relaxed);
    }
    va_lock_release(&va_profile_lock);
    Dump *dump = starts ? open_dump() : NULL;
    if (dump != NULL) {
        find_modules(dump);
        va_os_unmap(dump, VA_DUMP_BYTES);
    }
    return starts;
}

VA_COLD void va_profile_fork(void)
{
    va_lock_reset(&va_profile_lock);
    is_child = true;
}

VA_COLD void va_profile_stop(void)
{
    va_lock_acquire(&va_profile_lock);
    atomic_store_explicit(&va_profile_above, PTRDIFF_MAX, memory_order_relaxed);
    atomic_store_explicit(&va_profile_rate_bytes, 0, memory_order_relaxed);
    va_lock_release(&va_profile_lock);
}

VA_COLD bool va_profile_sample(const ProfileAllocation *allocation, StackFrame caller)
{
    uintptr_t addresses[VA_PROFILE_DEPTH_MAX];
    size_t depth = va_stack_walk(caller, __builtin_frame_address(0), addresses,
                                 atomic_load_explicit(&profile.depth, memory_order_relaxed));
    Sample sample = {.pointer = (uintptr_t)allocation->pointer,
                     .size = allocation->size,
                     .probability = allocation->probability,
                     .allocator = allocation->allocator,
                     .time_ms = va_os_clock_ms(),
                     .thread = allocation->thread,
                     .class = allocation->class};
    bool kept = false;
    va_lock_acquire(&va_profile_lock);
    if (va_profile_rate() != 0) {
        sample.stack =
            va_sample_table_call_stack(profile.table, allocation->label, addresses, depth);
        kept = va_sample_table_add(profile.table, &sample);
    }
    va_lock_release(&va_profile_lock);
    return kept;
}

VA_COLD bool va_profile_forget(const void *pointer)
{
    va_lock_acquire(&va_profile_lock);
    bool known = profile.table != NULL && va_sample_table_remove(profile.table, (uintptr_t)pointer);
    va_lock_release(&va_profile_lock);
    return known;
}

VA_COLD void va_profile_forget_allocator(const void *allocator)
{
    va_lock_acquire(&va_profile_lock);
    if (profile.table != NULL)
        va_sample_table_remove_allocator(profile.table, allocator);
    va_lock_release(&va_profile_lock);
}

VA_COLD uint64_t va_profile_live_bytes(void)
{
    va_lock_acquire(&va_profile_lock);
    double bytes = profile.table != NULL ? profile.table->live.bytes : 0;
    va_lock_release(&va_profile_lock);
    return (uint64_t)bytes;
}

/* ---- Output ---- */

VA_COLD bool va_profile_dump(ProfileFormat format, ProfileSink *sink, void *context)
{
    Dump *dump = open_dump();
    if (dump == NULL)
        return false;
    find_modules(dump);
    dump->sink = sink;
    dump->context = context;
    if (format == PROFILE_PPROF || format == PROFILE_PPROF_ALL)
        va_dump_pprof(dump, format);
    else
        va_dump_text(dump, format);
    bool done = va_dump_flush(dump);
    va_os_unmap(dump, VA_DUMP_BYTES);
    return done;
}

VA_COLD int va_profile_visit(int (*visit)(const ProfileSample *sample, void *context),
                             void *context)
{
    int result = 0;
    Dump *dump = open_dump();
    if (dump == NULL)
        return 0;
    const SampleTable *table = &dump->table;
    for (uint32_t i = 0; i < table->samples_used && result == 0; i++) {
        uintptr_t addresses[VA_PROFILE_DEPTH_MAX];
        const Sample *sample = &table->samples[i];
        const CallStack *stack = &table->stacks[sample->stack];
        for (uint32_t k = 0; k < stack->depth; k++)
            addresses[k] = table->locations[table->frames[stack->first + k]];
        ProfileSample shown = {.pointer = (const void *)sample->pointer,
                               .size = sample->size,
                               .objects = 1 / sample->probability,
                               .bytes = (double)sample->size / sample->probability,
                               .age_ms = dump->now_ms - sample->time_ms,
                               .label = table->labels[stack->label],
                               .stack = addresses,
                               .depth = stack->depth,
                               .thread = sample->thread,
                               .class = sample->class};
        result = visit(&shown, context);
    }
    va_os_unmap(dump, VA_DUMP_BYTES);
    return result;
}
