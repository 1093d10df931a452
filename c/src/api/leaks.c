/* leaks.c: see leaks.h. The list is made when exit handlers registered by the program have run:
 * ours is registered before main. Slots in the caches of other threads that still run are free but
 * cannot be told from used ones: the list then says how many there may be. */
#include "api/leaks.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "report/inspect.h"
#include "os/options.h"
#include "os/os.h"
#include "api/watch.h"
#include "profile/profile.h"

typedef struct Leaks {
    size_t slots[VA_CLASSES + 1]; /* by class; the last one is of large runs */
    size_t bytes[VA_CLASSES + 1];
} Leaks;

static VA_COLD int count_left(const MemoryBlock *block, void *context)
{
    Leaks *leaks = context;
    size_t class = va_class_of(block->slot_size);
    leaks->slots[class] += block->live_slots;
    leaks->bytes[class] += block->live_slots * block->slot_size;
    return 0;
}

static VA_COLD void leak_line(size_t slots, const char *kind, size_t slot_bytes, size_t bytes)
{
    Report report = {.length = 0};
    va_report_text(&report, "valloc: ");
    va_report_number(&report, slots, 10);
    va_report_text(&report, kind);
    if (slot_bytes != 0) {
        va_report_number(&report, slot_bytes, 10);
        va_report_text(&report, " bytes");
    }
    va_report_text(&report, ", ");
    va_report_number(&report, bytes, 10);
    va_report_text(&report, " bytes\n");
    va_os_write((int)va_options.stats_file, report.line, report.length);
}

/* What threads that still run may hold of it. */
static VA_COLD void line_of_caches(void)
{
    Report report = {.length = 0};
    CacheStats caches;
    va_registry_stats(&caches);
    if (caches.attached < 2)
        return;
    va_report_text(&report, "valloc: of these, the caches of other threads may hold up to ");
    va_report_number(&report, caches.capacity_bytes, 10);
    va_report_text(&report, " bytes\n");
    va_os_write((int)va_options.stats_file, report.line, report.length);
}

static VA_COLD bool write_profile(void *context, const void *bytes, size_t count)
{
    (void)context;
    va_os_write((int)va_options.stats_file, bytes, count);
    return true;
}

VA_COLD void va_leaks_report(void)
{
    Leaks leaks;
    size_t slots = 0;
    size_t bytes = 0;
    if (va_thread_reports)
        return;
    memset(&leaks, 0, sizeof leaks);
    va_cache_release_unused(); /* what threads that have exited left in their caches */
    va_route_blocks(&va_process, count_left, &leaks);
    for (unsigned class = 0; class <= VA_CLASSES; class ++) {
        slots += leaks.slots[class];
        bytes += leaks.bytes[class];
    }
    leak_line(slots, " slots in use at exit", 0, bytes);
    for (unsigned class = 0; class < VA_CLASSES; class ++)
        if (leaks.slots[class] != 0)
            leak_line(leaks.slots[class], " of ", va_size_classes[class].bytes, leaks.bytes[class]);
    if (leaks.slots[VA_CLASSES] != 0)
        leak_line(leaks.slots[VA_CLASSES], " larger ones", 0, leaks.bytes[VA_CLASSES]);
    line_of_caches();
    va_profile_dump(PROFILE_TEXT, write_profile, NULL); /* if there is one: where from */
}

/* Before main, so that the handler runs after the program's own. */
__attribute__((constructor(103))) static VA_STARTUP void register_by_option(void)
{
    if (va_unlikely(va_options.show_leaks))
        atexit(va_leaks_report);
}
