/* unity.c: the core as one translation unit. Every build compiles this file: the fast paths inline
 * across modules without link-time optimisation.
 *
 * The folders are the layers, the lowest first: a file includes headers of its own folder and of
 * those named before it. .ci/layers.py reads the order here. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* before the first header */
#endif

#include "base/check.c"

#include "os/os_linux.c"
#include "os/cgroup.c"
#include "os/options.c"

#include "table/meta.c"
#include "table/size_class.c"
#include "table/block_table.c"
#include "table/slot_state.c"

#include "profile/weight.c"
#include "profile/stack_walk.c"
#include "profile/sample_table.c"
#include "profile/modules.c"
#include "profile/dump.c"
#include "profile/dump_pprof.c"
#include "profile/profile.c"

#include "harden/secure.c"
#include "harden/zero_size.c"
#include "harden/memtag.c"

#include "arena/run_set.c"
#include "arena/arena_space.c"
#include "arena/arena_purge.c"
#include "arena/arena.c"
#include "arena/block_pool.c"

#include "slab/slab.c"
#include "slab/large.c"
#include "slab/sealed.c"

#include "cache/passage.c"
#include "cache/registry.c"
#include "cache/delivery.c"
#include "cache/supply.c"
#include "cache/stack_size.c"
#include "cache/large_cache.c"
#include "cache/sweep.c"
#include "cache/thread_cache.c"
#include "cache/idle.c"
#include "cache/quarantine.c"

#include "thread/thread.c"

#include "heap/allocator.c"
#include "heap/background.c"
#include "heap/orphans.c"
#include "heap/fork.c"

#include "report/stats.c"
#include "report/inspect.c"
#include "report/print.c"
#include "report/exit.c"

#include "api/foreign.c"
#include "api/alloc.c"
#include "api/defrag.c"
#include "api/emergency.c"
#include "api/watch.c"
#include "api/leaks.c"
#include "api/profile_file.c"
#include "api/sampling.c"
#include "api/batch.c"
#include "api/api.c"
