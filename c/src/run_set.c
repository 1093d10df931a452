/* run_set.c: free runs as bits with a summary level, searched from the lowest address. */
#include "run_set.h"

#include "check.h"

ArenaUse va_use = {.soft_limit = SIZE_MAX, .hard_limit = SIZE_MAX};

static void summarise(Arena *arena, size_t first, size_t count)
{
    for (size_t w = first / VA_GROUP_BLOCKS; w * VA_GROUP_BLOCKS < first + count; w++) {
        uint64_t bit = (uint64_t)1 << (w % 64);
        bool any = arena->groups[w].free != 0;
        if (any != ((arena->summary[w / 64] & bit) != 0)) /* a store would move its cache line */
            arena->summary[w / 64] ^= bit;
    }
}

size_t va_runs_take(Arena *arena, size_t first, size_t count)
{
    size_t dirty = 0;
    VA_FOR_EACH_GROUP(arena, first, count, group, mask) {
        va_assert((group->free & mask) == mask);
        dirty += (size_t)__builtin_popcountll(group->dirty & mask);
        group->free &= ~mask;
        group->aged &= ~mask;
        group->due &= ~mask;
    }
    summarise(arena, first, count);
    va_zone_at(arena, first)->free_blocks -= count;
    va_use_add(&va_use.dirty_blocks, (size_t)0 - dirty);
    return dirty;
}

void va_runs_return(Arena *arena, size_t first, size_t count, bool dirty)
{
    VA_FOR_EACH_GROUP(arena, first, count, group, mask) {
        va_assert((group->free & mask) == 0);
        group->free |= mask;
        if (dirty)
            group->dirty |= mask;
        else
            group->dirty &= ~mask;
    }
    summarise(arena, first, count);
    if (dirty)
        va_use_add(&va_use.dirty_blocks, count);
    Zone *zone = va_zone_at(arena, first);
    zone->free_blocks += count;
    zone->lowest_group = va_min(zone->lowest_group, first / VA_GROUP_BLOCKS);
}

void va_runs_raise_top(Arena *arena, Zone *zone, size_t end)
{
    if (end <= zone->top)
        return;
    size_t first = zone->top;
    zone->top = end;
    va_runs_return(arena, first, end - first, false);
}

size_t va_runs_next_group(const Arena *arena, const Zone *zone, size_t group)
{
    size_t end = va_runs_group_end(zone);
    while (group < end) {
        uint64_t rest = arena->summary[group / 64] >> (group % 64);
        if (rest != 0)
            return va_min(group + va_lowest_bit(rest), end);
        group = (group / 64 + 1) * 64;
    }
    return end;
}

size_t va_runs_find_block(const Arena *arena, Zone *zone)
{
    size_t group = va_runs_next_group(arena, zone, zone->lowest_group);
    zone->lowest_group = group;
    return group * VA_GROUP_BLOCKS + va_lowest_bit(arena->groups[group].free);
}

size_t va_runs_find(const Arena *arena, const Zone *zone, size_t count)
{
    size_t end = va_runs_group_end(zone);
    size_t tail = 0; /* free blocks up to the end of the group before */
    size_t next = zone->lowest_group;
    for (size_t group = va_runs_next_group(arena, zone, next); group < end;
         group = va_runs_next_group(arena, zone, next)) {
        uint64_t free = arena->groups[group].free;
        if (group != next)
            tail = 0;
        next = group + 1;
        if (free == UINT64_MAX) {
            tail += VA_GROUP_BLOCKS;
            if (tail >= count)
                return next * VA_GROUP_BLOCKS - tail;
            continue;
        }
        if (tail + va_lowest_bit(~free) >= count)
            return group * VA_GROUP_BLOCKS - tail;
        if (count < VA_GROUP_BLOCKS) {
            unsigned bit = va_word_find_ones(free, (unsigned)count);
            if (bit < VA_GROUP_BLOCKS)
                return group * VA_GROUP_BLOCKS + bit;
        }
        tail = 63 - va_highest_bit(~free);
    }
    return SIZE_MAX;
}

size_t va_runs_free_from(const Arena *arena, const Zone *zone, size_t first, size_t most)
{
    size_t count = 0;
    while (count < most && first + count < zone->top) {
        size_t next = first + count;
        size_t bit = next % VA_GROUP_BLOCKS;
        uint64_t busy = ~arena->groups[next / VA_GROUP_BLOCKS].free >> bit;
        count += busy == 0 ? VA_GROUP_BLOCKS - bit : va_lowest_bit(busy);
        if (busy != 0 && first + count < zone->top)
            return va_min(count, most);
    }
    return most;
}

size_t va_runs_free_below_top(const Arena *arena, const Zone *zone)
{
    size_t count = 0;
    while (zone->top - count > zone->first) {
        size_t last = zone->top - count - 1;
        uint64_t busy =
            ~(arena->groups[last / VA_GROUP_BLOCKS].free << (63 - last % VA_GROUP_BLOCKS));
        if (busy != 0)
            return count + 63 - va_highest_bit(busy);
        count += last % VA_GROUP_BLOCKS + 1;
    }
    return count;
}
