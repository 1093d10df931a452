/* profile_sites.c FOLDER: samples allocations of known sites, frees some, and dumps the profile in
 * every format to FOLDER. For each site it prints what the formats must say of it: allocated and
 * live objects and bytes, as the weights of its samples add up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "profile/profile.h"
#include "profile/weight.h"

#define RATE ((size_t)4096)

typedef struct Site {
    double objects, bytes, live_objects, live_bytes;
} Site;

static uint64_t seed = 12;

static double random_fraction(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (double)(seed >> 11) / 9007199254740992.0;
}

static __attribute__((noinline)) bool sampled_malloc(const ProfileAllocation *allocation)
{
    return va_profile_sample(allocation, VA_STACK_CALLER);
}

static __attribute__((noinline)) void allocate(Site *site, size_t size, const char *label)
{
    static uintptr_t pointer;
    const double probability = va_weight_probability(size, RATE);
    const ProfileAllocation allocation = {.pointer = (void *)(pointer += 16),
                                          .size = size,
                                          .probability = probability,
                                          .label = label,
                                          .thread = 1};
    if (random_fraction() >= probability)
        return;
    if (!sampled_malloc(&allocation))
        abort();
    site->objects += 1 / probability;
    site->bytes += (double)size / probability;
    if (random_fraction() < 0.5) {
        va_profile_forget((void *)pointer);
        return;
    }
    site->live_objects += 1 / probability;
    site->live_bytes += (double)size / probability;
}

/* Noinline, and no last call that becomes a jump. */
#define SITE(name)                                                                                 \
    static __attribute__((noinline)) void name(Site *site, size_t size, const char *label)         \
    {                                                                                              \
        allocate(site, size, label);                                                               \
        __asm__ volatile("");                                                                      \
    }

SITE(site_small)
SITE(site_page)
SITE(site_large)
SITE(site_mixed)
SITE(site_named)

static const struct {
    const char *name;
    void (*run)(Site *, size_t, const char *);
    size_t size, spread;
    const char *label;
} sites[] = {{"site_small", site_small, 16, 1, NULL},
             {"site_page", site_page, 4096, 1, NULL},
             {"site_large", site_large, 32 << 10, 1, NULL},
             {"site_mixed", site_mixed, 100, 10000, NULL},
             {"site_named", site_named, 1000, 1, "requests"}};
#define SITES (sizeof sites / sizeof *sites)

static bool write_to(void *file, const void *bytes, size_t count)
{
    return fwrite(bytes, 1, count, file) == count;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"pprof",       "heap",       "folded",
                                        "folded_peak", "folded_all", "text"};
    Site found[SITES] = {{0}};
    char path[4096];
    if (argc != 2 || !va_profile_start(RATE, PROFILE_ALL, 0))
        return 1;
    for (int turn = 0; turn < 3000; turn++)
        for (size_t i = 0; i < SITES; i++)
            sites[i].run(&found[i],
                         sites[i].size + (size_t)(random_fraction() * (double)sites[i].spread),
                         sites[i].label);
    for (int format = PROFILE_PPROF; format <= PROFILE_TEXT; format++) {
        snprintf(path, sizeof path, "%s/%s", argv[1], names[format]);
        FILE *file = fopen(path, "w");
        if (file == NULL || !va_profile_dump((ProfileFormat)format, write_to, file) ||
            fclose(file) != 0)
            return 1;
    }
    for (size_t i = 0; i < SITES; i++)
        printf("%s %.0f %.0f %.0f %.0f\n", sites[i].name, found[i].objects, found[i].bytes,
               found[i].live_objects, found[i].live_bytes);
    return 0;
}
