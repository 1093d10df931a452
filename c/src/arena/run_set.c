/* run_set.c: free runs as bits, and a binary tree over the groups of 64 that finds the lowest run
 * of any length in O(log n).
 *
 * A node tells of a range of 2^height groups how many free blocks it starts with, ends with, and
 * has in one run at most. A run lies in the left half, across the middle, or in the right half,
 * looked at in this order. Groups count from the zone's first. The nodes lie in the order of the
 * middles of their ranges, so that those of the first n groups are the first 2 n - 1 of the table,
 * whatever comes later; the halves of a node at height h are 2^(h-1) places before and behind it:
 *
 *   place      0     1     2     3     4     5     6
 *   height 2                   (0..3)
 *   height 1       (0..1)                  (2..3)
 *   height 0   0           1           2           3
 *
 * Nodes whose right half lies beyond top are left out: their left half stands for them. */
#include "arena/run_set.h"

#include "base/check.h"

ArenaUse va_use = {.soft_limit = SIZE_MAX, .hard_limit = SIZE_MAX};

/* ---- The tree ---- */

VA_INLINE size_t base_group(const Zone *zone)
{
    return zone->first / VA_GROUP_BLOCKS;
}

VA_INLINE BlockGroup *tree_of(const Arena *arena, const Zone *zone)
{
    return va_group(arena, base_group(zone));
}

VA_INLINE FreeSpan *node_of(BlockGroup *tree, size_t place)
{
    return &(tree - place / 2)->spans[place % 2];
}

VA_INLINE size_t node_count(const Zone *zone)
{
    size_t groups = va_runs_group_end(zone) - base_group(zone);
    return groups == 0 ? 0 : 2 * groups - 1;
}

/* How far the halves of the node that covers all lie from it, 0 if it has none. */
static size_t root_reach(size_t nodes)
{
    return nodes <= 1 ? 0 : (size_t)1 << (va_highest_bit(nodes - 1) - 1);
}

/* What stands for a node whose halves are `reach` places away. */
VA_INLINE size_t present_node(size_t node, size_t reach, size_t nodes)
{
    for (; node >= nodes; reach /= 2)
        node -= reach;
    return node;
}

/* Stores a node; tells whether it was another. */
VA_INLINE bool set_span(FreeSpan *place, uint32_t prefix, uint32_t suffix, uint32_t longest)
{
    uint32_t other =
        (place->prefix ^ prefix) | (place->suffix ^ suffix) | (place->longest ^ longest);
    *place = (FreeSpan){.prefix = prefix, .suffix = suffix, .longest = longest};
    return other != 0;
}

VA_INLINE bool set_leaf(BlockGroup *group)
{
    uint64_t free = group->free;
    if (free == UINT64_MAX)
        return set_span(&group->spans[0], 64, 64, 64);
    return set_span(&group->spans[0], va_lowest_bit(~free), 63 - va_highest_bit(~free),
                    va_word_longest_ones(free));
}

/* Makes a node of its halves, which have so many blocks each; tells whether it was another. */
VA_INLINE bool join(FreeSpan *place, const FreeSpan *left, const FreeSpan *right, uint32_t half)
{
    uint32_t across = left->suffix + right->prefix;
    uint32_t longest = left->longest > right->longest ? left->longest : right->longest;
    return set_span(place, left->prefix + (left->prefix == half ? right->prefix : 0),
                    right->suffix + (right->suffix == half ? left->suffix : 0),
                    longest > across ? longest : across);
}

/* Brings the inner nodes [low, high] of one height up to date; tells whether one was another. The
 * halves of the lowest ones are leaves, which come first in their groups; all others come second.
 */
VA_INLINE bool update_height(BlockGroup *tree, size_t nodes, size_t low, size_t high, size_t reach)
{
    bool changed = false;
    for (size_t node = low; node <= high; node += 4 * reach) {
        if (va_unlikely(node >= nodes))
            return true;
        BlockGroup *group = tree - node / 2;
        const FreeSpan *left = reach == 1 ? &group->spans[0] : &(group + reach / 2)->spans[1];
        const FreeSpan *right =
            reach == 1 ? &(group - 1)->spans[0] : &(group - reach / 2)->spans[1];
        if (va_unlikely(node + reach >= nodes))
            right = node_of(tree, present_node(node + reach, reach / 2, nodes));
        changed |= join(&group->spans[1], left, right, (uint32_t)(reach * VA_GROUP_BLOCKS));
    }
    return changed;
}

/* Brings the tree up to date for blocks [first, first + count): upwards until nothing changes, or
 * to the root, if nodes have become part of the tree. */
static void update_tree(const Arena *arena, const Zone *zone, size_t first, size_t count,
                        bool to_root)
{
    size_t base = base_group(zone);
    size_t nodes = node_count(zone);
    BlockGroup *tree = tree_of(arena, zone);
    size_t low = first / VA_GROUP_BLOCKS - base;
    size_t high = (first + count - 1) / VA_GROUP_BLOCKS - base;
    bool changed = to_root;
    for (size_t group = low; group <= high; group++)
        changed |= set_leaf(tree - group);
    size_t top_reach = root_reach(nodes);
    if (!changed || top_reach == 0)
        return;
    low = va_align_down(low * 2, 4) + 1; /* the parents */
    high = va_align_down(high * 2, 4) + 1;
    changed = update_height(tree, nodes, low, high, 1);
    for (size_t reach = 2; (changed || to_root) && reach <= top_reach; reach *= 2) {
        low = va_align_down(low, 4 * reach) + 2 * reach - 1;
        high = va_align_down(high, 4 * reach) + 2 * reach - 1;
        changed = update_height(tree, nodes, low, high, reach);
    }
}

/* ---- Blocks come and go ---- */

void va_runs_take(Arena *arena, size_t first, size_t count)
{
    size_t dirty = 0;
    VA_FOR_EACH_GROUP(arena, first, count, group, mask) {
        va_assert((group->free & mask) == mask);
        dirty += va_word_count(group->dirty & mask);
        group->free &= ~mask;
        group->dirty &= ~mask;
        group->old &= ~mask;
    }
    Zone *zone = va_zone_at(arena, first);
    update_tree(arena, zone, first, count, false);
    zone->free_blocks -= count;
    va_use_add(&va_use.dirty_blocks, (size_t)0 - dirty);
}

void va_runs_return(Arena *arena, size_t first, size_t count, bool dirty)
{
    VA_FOR_EACH_GROUP(arena, first, count, group, mask) {
        va_assert(((group->free | group->dirty) & mask) == 0);
        group->free |= mask;
        if (dirty)
            group->dirty |= mask;
    }
    Zone *zone = va_zone_at(arena, first);
    if (dirty) {
        va_use_add(&va_use.dirty_blocks, count);
        zone->purge_end = va_max(zone->purge_end, (first + count - 1) / VA_GROUP_BLOCKS + 1);
    }
    update_tree(arena, zone, first, count, false);
    zone->free_blocks += count;
}

/* Brings the nodes up to date that reach across the end of the groups below the old top. */
void va_runs_raise_top(Arena *arena, Zone *zone, size_t end)
{
    size_t old = zone->top;
    zone->top = end;
    if (old > zone->first)
        update_tree(arena, zone, old - 1, 1, true);
}

/* ---- Search ---- */

VA_APART size_t va_runs_find(const Arena *arena, const Zone *zone, size_t count)
{
    size_t base = base_group(zone);
    size_t nodes = node_count(zone);
    BlockGroup *tree = tree_of(arena, zone);
    size_t reach = root_reach(nodes);
    size_t node = reach == 0 ? 0 : 2 * reach - 1;
    if (nodes == 0 || node_of(tree, node)->longest < count)
        return SIZE_MAX;
    for (; reach > 0; reach /= 2) {
        const FreeSpan *left = node_of(tree, node - reach);
        if (node >= nodes || left->longest >= count) {
            node -= reach;
            continue;
        }
        const FreeSpan *right = node_of(tree, present_node(node + reach, reach / 2, nodes));
        if ((size_t)left->suffix + right->prefix >= count)
            return (base + (node + 1) / 2) * VA_GROUP_BLOCKS - left->suffix;
        node += reach;
    }
    size_t group = base + node / 2;
    return group * VA_GROUP_BLOCKS +
           va_word_find_ones(va_group(arena, group)->free, (unsigned)count);
}

size_t va_runs_free_from(const Arena *arena, const Zone *zone, size_t first, size_t most)
{
    size_t count = 0;
    while (count < most && first + count < zone->top) {
        size_t next = first + count;
        size_t bit = next % VA_GROUP_BLOCKS;
        uint64_t busy = ~va_group(arena, next / VA_GROUP_BLOCKS)->free >> bit;
        count += busy == 0 ? VA_GROUP_BLOCKS - bit : va_lowest_bit(busy);
        if (busy != 0 && first + count < zone->top)
            return va_min(count, most);
    }
    return most;
}

size_t va_runs_free_below(const Arena *arena, const Zone *zone, size_t end, bool clean)
{
    size_t count = 0;
    while (end - count > zone->first) {
        size_t last = end - count - 1;
        size_t here = last % VA_GROUP_BLOCKS + 1; /* blocks of the group that are looked at */
        const BlockGroup *group = va_group(arena, last / VA_GROUP_BLOCKS);
        uint64_t wanted = clean ? group->free & ~group->dirty : group->free;
        uint64_t busy = ~(wanted << (VA_GROUP_BLOCKS - here));
        size_t free = busy == 0 ? VA_GROUP_BLOCKS : 63 - va_highest_bit(busy);
        count += va_min(free, here);
        if (free < here)
            break;
    }
    return count;
}
