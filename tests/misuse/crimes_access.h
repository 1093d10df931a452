/* crimes_access.h: reads and writes outside of a live allocation; what an attacker may foresee. */
#ifndef CRIMES_ACCESS_H
#define CRIMES_ACCESS_H

#include "crimes.h"

/* How memory is accessed: writes, then reads. */
typedef enum Access {
    LOOP,
    MEMCPY,
    MEMMOVE,
    MEMSET,
    STRCPY,
    STPCPY,
    STRNCPY,
    STRCAT,
    STRNCAT,
    READ_LOOP,
    READ_MEMCPY,
    READ_MEMMOVE,
    READ_STRNCPY
} Access;

/* Where: behind the bytes asked for, behind those that may be used, before the block. */
typedef enum Where { BEHIND_REQUEST, BEHIND_SLOT, BEFORE } Where;

#define INSIDE_BYTES 12 /* of the access lie in the block: copies start there */

static bool is_leak(const char *bytes, int count)
{
    static const char secret[] = "nnnn"; /* chance has fewer */
    int wanted = count < 4 ? count : 4;
    for (int i = 0; i + wanted <= count; i++)
        if (memcmp(bytes + i, secret, (size_t)wanted) == 0)
            return true;
    return false;
}

/* A string of so many bytes, its end included; `bytes` has room for it. */
static void write_string(Access access, char *to, char *bytes, size_t length)
{
    memset(bytes, 'w', length - 1);
    bytes[length - 1] = '\0';
    switch (access) {
    case STPCPY:
        stpcpy(to, bytes);
        break;
    case STRNCPY:
        strncpy(to, bytes, length);
        break;
    case STRCAT:
        to[4] = '\0'; /* what is appended to lies in the block */
        strcat(to, bytes + 4);
        break;
    case STRNCAT:
        to[4] = '\0';
        strncat(to, bytes + 4, length);
        break;
    default:
        strcpy(to, bytes);
    }
}

/* Whole copies begin or end inside the block, as those of programs do. What is written differs from
 * what was there. True if it read what the neighbours hold. */
static bool access_wrongly(Access access, char *start, int count, bool before)
{
    char bytes[1024];
    volatile char *outside = start;
    bool leaked = false;
    char *whole = before ? start : start - INSIDE_BYTES;
    size_t length = INSIDE_BYTES + (size_t)count;
    accessing = 1;
    for (size_t i = 0; i < length; i++)
        bytes[i] = (char)~((volatile char *)whole)[i];
    switch (access) {
    case LOOP:
        for (int i = 0; i < count; i++)
            outside[before ? count - 1 - i : i] ^= (char)0xff;
        break;
    case MEMCPY:
        memcpy(whole, bytes, length);
        break;
    case MEMMOVE:
        memmove(whole, bytes, length);
        break;
    case MEMSET:
        memset(whole, bytes[INSIDE_BYTES], length);
        break;
    case STRCPY:
    case STPCPY:
    case STRNCPY:
    case STRCAT:
    case STRNCAT:
        write_string(access, whole, bytes, length);
        break;
    case READ_LOOP:
        for (int i = 0; i < count; i++)
            bytes[i] = outside[i];
        leaked = is_leak(bytes, count);
        break;
    case READ_MEMCPY:
        memcpy(bytes, whole, length);
        leaked = is_leak(bytes, (int)length);
        break;
    case READ_MEMMOVE:
        memmove(bytes, whole, length);
        leaked = is_leak(bytes, (int)length);
        break;
    case READ_STRNCPY:
        memset(bytes, 0, sizeof bytes);
        strncpy(bytes, whole, length);
        leaked = is_leak(bytes, (int)length);
        break;
    }
    accessing = 0;
    committed = 1;
    return leaked;
}

#define EDGE 600 /* bytes at either end of a block that are looked at */

static bool holds_only(const char *block, size_t size, char value)
{
    size_t edge = size < EDGE ? size : EDGE;
    for (size_t i = 0; i < edge; i++)
        if (block[i] != value || block[size - 1 - i] != value)
            return false;
    return true;
}

static void fill(char *block, size_t size, char value)
{
    size_t edge = size < EDGE ? size : EDGE;
    memset(block, value, edge);
    memset(block + size - edge, value, edge);
}

/* The place of the block with the least distance to the one behind it, which is *next: of several
 * such blocks one from the middle, so that it has more neighbours, and none before a page that
 * valloc may guard at the end of 64 KiB. */
static int closest(char *const *blocks, int count, size_t size, int *next)
{
    int best = 0;
    uintptr_t least = UINTPTR_MAX;
    for (int turn = 0; turn < count; turn++)
        for (int j = 0; j < count; j++) {
            int i = (count / 2 + turn) % count;
            uintptr_t distance = (uintptr_t)blocks[j] - (uintptr_t)blocks[i];
            bool last = size < 4 * KIB && ((uintptr_t)blocks[i] & 0xffff) > 0xe000;
            if (i != j && !last && distance < least) {
                least = distance;
                best = i;
                *next = j;
            }
        }
    return best;
}

/* Blocks side by side, if they are. All hold n; the first of two neighbours, or for what lies
 * before it the second, is the guilty one, which holds g. */
static Outcome overflow(const Crime *crime, size_t size)
{
    enum { BLOCKS_AT_MOST = 60 };
    char *blocks[BLOCKS_AT_MOST];
    int count = at_most(BLOCKS_AT_MOST, size);
    int next = 0;
    bool changed = false;
    size -= 3; /* slack */
    for (int i = 0; i < count; i++)
        fill(blocks[i] = get(size), size, 'n');
    int guilty = closest(blocks, count, size, &next);
    if (crime->at == BEFORE)
        guilty = next;
    char *block = hide(blocks[guilty]);
    fill(block, size, 'g');
    char *start = crime->at == BEFORE           ? block - crime->count
                  : crime->at == BEHIND_REQUEST ? block + size
                                                : block + subject_usable_size(block);
    bool leaked = access_wrongly((Access)crime->how, start, crime->count, crime->at == BEFORE);
    for (int i = 0; i < count; i++)
        changed |= i != guilty && !holds_only(blocks[i], size, 'n');
    for (int i = 0; i < count; i++)
        release(blocks[i]);
    flush();
    return changed || leaked ? UNNOTICED : look_for_overlap(size, NULL);
}

/* A write of count bytes, so many behind the block. */
static Outcome write_far(const Crime *crime, size_t size)
{
    char *block = get(size);
    (void)look_for_overlap(16 * KIB, NULL); /* a heap of 32 MiB */
    accessing = 1;
    for (int i = 0; i < crime->count; i++)
        ((volatile char *)block)[size + (size_t)crime->at + (size_t)i] = 'w';
    accessing = 0;
    committed = 1;
    release(block);
    flush();
    return UNNOTICED;
}

static Outcome use_empty(const Crime *crime, size_t size)
{
    enum { BLOCKS_AT_MOST = 60 };
    char *blocks[BLOCKS_AT_MOST];
    (void)size;
    for (int i = 0; i < BLOCKS_AT_MOST; i++)
        blocks[i] = get(0);
    int next = 0;
    int guilty = closest(blocks, BLOCKS_AT_MOST, 16, &next);
    accessing = 1; /* any access is wrong */
    if (crime->count > 16)
        *(volatile char *)blocks[next] = 'n';
    bool leaked = access_wrongly((Access)crime->how, blocks[guilty], crime->count, false);
    bool changed = crime->count > 16 && *blocks[next] != 'n';
    for (int i = 0; i < BLOCKS_AT_MOST; i++)
        release(blocks[i]);
    flush();
    return leaked || changed ? UNNOTICED : UNHARMED;
}

/* ---- After free ---- */

typedef enum Dead {
    DEAD_READ,
    DEAD_READ_MEMCPY,
    DEAD_READ_REALLOC,
    DEAD_WRITE,
    DEAD_WRITE_MEMCPY,
    DEAD_WRITE_REUSED,
    REUSED_WRITE,
    REUSED_READ
} Dead;

/* Has a byte of it, of those that programs fill, still the value? */
static bool holds_any(const char *block, size_t size, char value)
{
    size_t edge = size < EDGE ? size : EDGE;
    return memchr(block, value, edge) != NULL || memchr(block + size - edge, value, edge) != NULL;
}

static bool read_dead(const char *block, size_t size)
{
    accessing = 1;
    bool leaked = holds_any(hide(block), size, 's');
    accessing = 0;
    committed = 1;
    return leaked;
}

static void write_dead(char *block, size_t size)
{
    accessing = 1;
    for (size_t i = 0; i < size; i += i + 1 == EDGE && size > 2 * EDGE ? size - 2 * EDGE + 1 : 1)
        ((volatile char *)block)[i] = 'w';
    accessing = 0;
    committed = 1;
}

/* By memcpy: 12 bytes of it. */
static Outcome copy_dead(bool writes, char *block)
{
    char bytes[INSIDE_BYTES] = "wwwwwwwwwww";
    accessing = 1;
    if (writes)
        memcpy(hide(block), bytes, sizeof bytes);
    else
        memcpy(bytes, hide(block), sizeof bytes);
    accessing = 0;
    committed = 1;
    return holds_any(bytes, sizeof bytes, 's') ? UNNOTICED : UNHARMED;
}

/* New blocks, of which one is likely to be at the old place: they hold the value. */
static int get_many(char **blocks, int count, size_t size, char value)
{
    count = at_most(count, size);
    for (int i = 0; i < count; i++)
        fill(blocks[i] = get(size), size, value);
    return count;
}

static Outcome use_dead(const Crime *crime, size_t size)
{
    enum { NEW = 600 };
    static char *blocks[NEW];
    int count;
    bool bad = false;
    char *dead = get(size);
    fill(dead, size, 's');
    if (crime->how == DEAD_READ_REALLOC) {
        char *moved = subject_realloc(hide(dead), 4 * size + 100);
        if (moved == hide(dead))
            return ABSENT;
    } else {
        release(dead);
    }
    switch ((Dead)crime->how) {
    case DEAD_READ:
    case DEAD_READ_REALLOC:
        return read_dead(dead, size) ? UNNOTICED : UNHARMED;
    case DEAD_READ_MEMCPY:
    case DEAD_WRITE_MEMCPY:
        return copy_dead(crime->how == DEAD_WRITE_MEMCPY, dead);
    case DEAD_WRITE: /* nobody is there */
        write_dead(dead, size);
        flush();
        return look_for_overlap(size, NULL);
    case DEAD_WRITE_REUSED: /* calloc promises zeroes */
        write_dead(dead, size);
        for (int i = at_most(NEW, size); i > 0; i--)
            bad |= holds_any(hide(subject_calloc(1, size)), size, 'w');
        break;
    case REUSED_WRITE:
        count = get_many(blocks, NEW, size, 'a');
        write_dead(dead, size);
        for (int i = 0; i < count; i++)
            bad |= !holds_only(blocks[i], size, 'a');
        for (int i = 0; i < count; i++)
            release(blocks[i]);
        break;
    case REUSED_READ:
        get_many(blocks, NEW, size, 's');
        bad = read_dead(dead, size);
        break;
    }
    flush();
    return bad ? UNNOTICED : UNHARMED;
}

/* ---- What can be foreseen ---- */

typedef enum Foresight { NEXT_MALLOC, NEXT_FEW, DISTANCES, TABLES } Foresight;

/* Does malloc return what was freed just before, or a few frees before? Chance has 200 tries. */
static bool reuses_soon(size_t size, int between)
{
    char *others[8];
    for (int turn = 0; turn < 200; turn++) {
        char *block = get(size);
        release(block);
        for (int i = 0; i < between; i++)
            others[i] = get(size);
        for (int i = 0; i < between; i++)
            if (others[i] == block)
                return true;
        for (int i = 0; i < between; i++)
            release(others[i]);
    }
    return false;
}

/* Do most blocks lie where the two before them let expect? */
static bool repeats_distances(size_t size)
{
    enum { MANY = 64 };
    char *blocks[MANY];
    int count = at_most(MANY, size);
    int same = 0;
    for (int i = 0; i < count; i++)
        blocks[i] = get(size);
    for (int i = 2; i < count; i++)
        same += blocks[i] - blocks[i - 1] == blocks[i - 1] - blocks[i - 2];
    return 2 * same > count;
}

/* The distances from a block to all writable mappings of no file within 4 TiB. */
static int distances(const char *block, ptrdiff_t *found, int most)
{
    char line[512];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps != NULL && count < most && fgets(line, sizeof line, maps) != NULL) {
        uintptr_t start;
        uintptr_t limit;
        char rights[8];
        unsigned long offset;
        unsigned long inode;
        if (sscanf(line, "%zx-%zx %7s %lx %*s %lu", &start, &limit, rights, &offset, &inode) != 5)
            break;
        ptrdiff_t distance = (ptrdiff_t)(start - (uintptr_t)block);
        bool own = (uintptr_t)block >= start && (uintptr_t)block < limit;
        if (rights[1] == 'w' && inode == 0 && strchr(line, '[') == NULL && !own &&
            distance < (ptrdiff_t)4 << 40 && -distance < (ptrdiff_t)4 << 40)
            found[count++] = distance;
    }
    if (maps != NULL)
        fclose(maps);
    return count;
}

#define DISTANCES_AT_MOST 200
#define NEARLY (256 << 10) /* the first few blocks of 64 KiB may be mixed */

/* In another process: main calls this for "distances". */
static int print_distances(void)
{
    ptrdiff_t found[DISTANCES_AT_MOST];
    int count = distances(get(100), found, DISTANCES_AT_MOST);
    fwrite(found, sizeof *found, (size_t)count, stdout);
    return 0;
}

static int ask_distances(ptrdiff_t *found)
{
    FILE *other = popen("exec \"/proc/$PPID/exe\" distances", "r");
    if (other == NULL)
        _exit(2);
    int count = (int)fread(found, sizeof *found, DISTANCES_AT_MOST, other);
    pclose(other);
    return count;
}

/* Have two processes of one program a mapping at nearly the same distance from a block? An index
 * from the block then leads to what the allocator keeps there. */
static bool tables_are_near(void)
{
    ptrdiff_t one[DISTANCES_AT_MOST];
    ptrdiff_t other[DISTANCES_AT_MOST];
    int count = ask_distances(one);
    int others = ask_distances(other);
    for (int i = 0; i < count; i++)
        for (int k = 0; k < others; k++)
            if (llabs(one[i] - other[k]) < NEARLY)
                return true;
    return false;
}

static Outcome foresee(const Crime *crime, size_t size)
{
    bool foreseen = crime->how == NEXT_MALLOC ? reuses_soon(size, 1)
                    : crime->how == NEXT_FEW  ? reuses_soon(size, 8)
                    : crime->how == DISTANCES ? repeats_distances(size)
                                              : tables_are_near();
    return foreseen ? UNNOTICED : UNHARMED;
}

#endif
