/* copies.c: memcpy and its family in the override library of secure builds. A copy that leaves the
 * allocation where it begins, or that begins in a freed one, is reported instead of made.
 *
 * An address in the arena leads to its slot or run, that to the number of bytes requested (canaries
 * tell it; else to the usable size). All other addresses cost a subtraction and a comparison. Where
 * a large run starts is looked for in the MiB before the address; from further inside it, a copy
 * must not reach the start of another run.
 *
 * Nothing is locked, allocated or written: so all of it works in a signal handler, in the loader,
 * and before valloc has any arena. libc's memmove and memset do the work. They are found when
 * constructors run; until then loops serve. The core itself copies unchecked (config.h). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FORTIFY_SOURCE /* its functions are defined here */
#define VA_CHECKS_COPIES
#include "base/config.h"

#if VALLOC_SECURE_COPIES

#include <dlfcn.h>
#include <string.h>

#include "api/alloc.h"
#include "base/check.h"
#include "harden/secure.h"
#include "table/slot_state.h"

#define EXPORT __attribute__((visibility("default")))

/* ---- The work ---- */

typedef void *Move(void *to, const void *from, size_t bytes);
typedef void *Fill(void *to, int value, size_t bytes);
static Move *libc_move; /* const after find_libc */
static Fill *libc_fill;

__attribute__((constructor(101))) static VA_STARTUP void find_libc(void)
{
    libc_move = (Move *)dlsym(RTLD_NEXT, "memmove");
    libc_fill = (Fill *)dlsym(RTLD_NEXT, "memset");
}

/* VA_FORGET: or the compiler makes calls of memmove and memset out of the loops. */
static VA_COLD void *move_bytes(char *to, const char *from, size_t bytes)
{
    if (to < from) {
        for (size_t i = 0; i < bytes; i++) {
            to[i] = from[i];
            VA_FORGET(i);
        }
    } else {
        for (size_t i = bytes; i > 0; i--) {
            to[i - 1] = from[i - 1];
            VA_FORGET(i);
        }
    }
    return to;
}

static VA_COLD void *fill_bytes(char *to, char value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] = value;
        VA_FORGET(i);
    }
    return to;
}

/* The core calls these, too. */
void *va_copies_move(void *to, const void *from, size_t bytes);
void *va_copies_fill(void *to, int value, size_t bytes);

void *va_copies_move(void *to, const void *from, size_t bytes)
{
    return va_likely(libc_move != NULL) ? libc_move(to, from, bytes) : move_bytes(to, from, bytes);
}

void *va_copies_fill(void *to, int value, size_t bytes)
{
    return va_likely(libc_fill != NULL) ? libc_fill(to, value, bytes)
                                        : fill_bytes(to, (char)value, bytes);
}

/* ---- What an address leads to ---- */

typedef enum Access { ACCESS_READ, ACCESS_WRITE } Access;

/* More than is left: "13 bytes, where 1 is left". */
static _Noreturn VA_COLD void fail_beyond(const char *function, Access access, const void *pointer,
                                          size_t bytes, size_t room)
{
    static const char *const what[] = {
        [ACCESS_READ] = "read beyond its end", [ACCESS_WRITE] = "written to beyond its end"};
    Report text = {.length = 0};
    va_report_text(&text, what[access]);
    va_report_text(&text, ", ");
    va_report_number(&text, bytes, 10);
    va_report_text(&text, bytes == 1 ? " byte where " : " bytes where ");
    va_report_number(&text, room, 10);
    va_report_text(&text, room == 1 ? " is left" : " are left");
    text.line[text.length] = '\0';
    va_fatal(function, text.line, pointer);
}

static _Noreturn VA_COLD void fail_freed(const char *function, Access access, const void *pointer)
{
    static const char *const what[] = {
        [ACCESS_READ] = "read after its free", [ACCESS_WRITE] = "written to after its free"};
    va_fatal(function, what[access], pointer);
}

/* Where nothing is known: as outside of the heap. */
#define ROOM_UNKNOWN SIZE_MAX

/* The bytes from `distance` on, in a slot or run of so many; 0 if its canary is damaged. */
VA_INLINE size_t room_from(const char *start, size_t bytes, size_t distance)
{
    size_t slack = va_canary_slack(start + bytes, bytes);
    size_t lost = VA_CANARY_BYTES + slack + distance;
    return slack != SIZE_MAX && lost < bytes ? bytes - lost : 0;
}

/* An address's distance from the start of its slot. */
VA_INLINE size_t slot_distance(const void *pointer, unsigned class)
{
    uint64_t offset = va_block_offset(pointer);
    const SizeClass *row = &va_size_classes[class];
    return offset - (offset * row->reciprocal >> 32) * row->bytes;
}

/* In a block that is no slab: of the run around it. */
static VA_APART size_t room_in_run(const Arena *arena, const void *pointer, const char *function,
                                   Access access)
{
    size_t index = va_block_index(arena, pointer);
    size_t first = index;
    size_t least = index - va_min(index, VA_RUN_BLOCKS_MAX);
    while (va_entry_load(&arena->entries[first]) == 0 && first > least)
        first--;
    uint32_t entry = va_entry_load(&arena->entries[first]);
    unsigned class = va_entry_class(entry);
    const Block *run = &arena->records[first];
    if (entry == 0 || class < VA_CLASSES_SMALL || class > VA_CLASS_LARGE ||
        index - first >= run->run_blocks)
        return ROOM_UNKNOWN;
    const char *start = va_block_address(run);
    if (class != VA_CLASS_LARGE && !va_slot_is_live(run, class, start))
        fail_freed(function, access, pointer);
    size_t bytes = va_usable_size_unchecked(start) + VA_CANARY_BYTES;
    return room_from(start, bytes, (size_t)((const char *)pointer - start));
}

/* From deep inside a large run. */
static VA_APART bool reaches_other(const Arena *arena, const char *pointer, size_t bytes)
{
    size_t last = va_block_index(arena, pointer + bytes - 1);
    last = va_min(last, atomic_load_explicit(&arena->tabled, memory_order_relaxed) - 1);
    for (size_t i = va_block_index(arena, pointer) + 1; i <= last; i++)
        if (va_entry_load(&arena->entries[i]) != 0)
            return true;
    return false;
}

/* In an arena. */
static VA_APART size_t room_in(const Arena *arena, const void *pointer, const char *function,
                               Access access)
{
    uint32_t entry = va_entry_load(&arena->entries[va_block_index(arena, pointer)]);
    unsigned class = va_entry_class(entry);
    if (class >= VA_CLASSES_SMALL || entry == 0)
        return room_in_run(arena, pointer, function, access);
    size_t distance = slot_distance(pointer, class);
    const char *start = (const char *)pointer - distance;
    const uint8_t *state = va_state_of(arena, class, start);
    if (!va_state_is_live(state, start) && !va_state_is_sampled(state, start))
        fail_freed(function, access, pointer);
    return room_from(start, va_size_classes[class].bytes, distance);
}

static VA_APART void check(const char *function, Access access, const void *pointer, size_t bytes)
{
    const Arena *arena = bytes != 0 ? va_arena_find(pointer) : NULL;
    if (arena == NULL)
        return;
    size_t room = room_in(arena, pointer, function, access);
    if (bytes > room)
        fail_beyond(function, access, pointer, bytes, room);
    if (room == ROOM_UNKNOWN && reaches_other(arena, pointer, bytes))
        fail_beyond(function, access, pointer, bytes, VA_BLOCK_BYTES - va_block_offset(pointer));
}

/* Whether there is no arena but the first, and that does not have it. */
VA_INLINE bool is_outside(const void *pointer)
{
    return va_block_index(&va_arenas[0], pointer) >=
               atomic_load_explicit(&va_arenas[0].tabled, memory_order_relaxed) &&
           va_likely(atomic_load_explicit(&va_arena_count, memory_order_relaxed) <= 1);
}

/* Whether no arena has it, or surely a live slot, or the first block of a live run, with so many
 * bytes left. Requests end in the last eighth of their slots, or the last 16 bytes, unless they
 * have an alignment: before that no canary is read. */
VA_INLINE bool is_sound(const char *pointer, size_t bytes)
{
    const Arena *arena = &va_arenas[0];
    size_t index = va_block_index(arena, pointer);
    if (index >= atomic_load_explicit(&arena->tabled, memory_order_relaxed))
        return va_likely(atomic_load_explicit(&va_arena_count, memory_order_relaxed) <= 1);
    uint32_t entry = va_entry_load(&arena->entries[index]);
    unsigned class = va_entry_class(entry);
    if (va_unlikely(class >= VA_CLASSES || entry == 0))
        return false;
    size_t slot_bytes = va_size_classes[class].bytes;
    size_t distance = slot_distance(pointer, class);
    const char *start = pointer - distance;
    const uint8_t *state = va_state_of(arena, class, start);
    if (va_unlikely(!va_state_is_live(state, start)))
        return false;
    size_t used = distance + slot_bytes / 8 + VA_MIN_ALIGN + VA_CANARY_BYTES;
    return (used <= slot_bytes && bytes <= slot_bytes - used && class < VA_CLASSES_SMALL) ||
           bytes <= room_from(start, slot_bytes, distance);
}

/* The length of a string, `most` at most; it must end in its allocation. */
static size_t length_of(const char *function, const char *string, size_t most)
{
    const Arena *arena = is_outside(string) || most == 0 ? NULL : va_arena_find(string);
    size_t room = arena != NULL ? room_in(arena, string, function, ACCESS_READ) : ROOM_UNKNOWN;
    size_t limit = va_min(room, most);
    size_t length = limit == SIZE_MAX ? strlen(string) : strnlen(string, limit);
    if (va_unlikely(length == room))
        fail_beyond(function, ACCESS_READ, string, room + 1, room);
    return length;
}

/* ---- The functions ---- */

/* `size` is what the compiler of a program with _FORTIFY_SOURCE knows of the target. */
#define SIZE_UNKNOWN SIZE_MAX

#ifdef __GLIBC__
_Noreturn void __chk_fail(void); /* glibc's: ends the process */
#define FORTIFY(bytes, size) (va_unlikely((bytes) > (size)) ? __chk_fail() : (void)0)
#else
#define FORTIFY(bytes, size) ((void)(size))
#endif

static VA_APART void *copy_checked(void *to, const void *from, size_t bytes, const char *function)
{
    check(function, ACCESS_WRITE, to, bytes);
    check(function, ACCESS_READ, from, bytes);
    return va_copies_move(to, from, bytes);
}

static VA_APART void *fill_checked(void *to, int value, size_t bytes)
{
    check("memset", ACCESS_WRITE, to, bytes);
    return va_copies_fill(to, value, bytes);
}

/* Apart, and without calls that return: no register has to be saved. */
static VA_NOINLINE void *copy_in_heap(void *to, const void *from, size_t bytes,
                                      const char *function)
{
    if (is_sound(to, bytes) && is_sound(from, bytes))
        return va_copies_move(to, from, bytes);
    return copy_checked(to, from, bytes, function);
}

static VA_NOINLINE void *fill_in_heap(void *to, int value, size_t bytes)
{
    if (is_sound(to, bytes))
        return va_copies_fill(to, value, bytes);
    return fill_checked(to, value, bytes);
}

VA_INLINE char *copy(const char *function, void *to, const void *from, size_t bytes, size_t size)
{
    FORTIFY(bytes, size);
    if (is_outside(to) && is_outside(from))
        return va_copies_move(to, from, bytes);
    return copy_in_heap(to, from, bytes, function);
}

VA_INLINE void *fill(void *to, int value, size_t bytes, size_t size)
{
    FORTIFY(bytes, size);
    return is_outside(to) ? va_copies_fill(to, value, bytes) : fill_in_heap(to, value, bytes);
}

/* These return where the string now ends. */
VA_INLINE char *copy_string(const char *function, char *to, const char *from, size_t most,
                            size_t size)
{
    size_t length = length_of(function, from, most);
    FORTIFY(length + 1, size);
    check(function, ACCESS_WRITE, to, length + 1);
    va_copies_move(to, from, length);
    to[length] = '\0';
    return to + length;
}

VA_INLINE char *copy_padded(const char *function, char *to, const char *from, size_t bytes,
                            size_t size)
{
    size_t length = length_of(function, from, bytes);
    FORTIFY(bytes, size);
    check(function, ACCESS_WRITE, to, bytes);
    va_copies_move(to, from, length);
    va_copies_fill(to + length, 0, bytes - length);
    return to + length;
}

VA_INLINE char *append(const char *function, char *to, const char *from, size_t most, size_t size)
{
    size_t length = length_of(function, to, SIZE_MAX);
    FORTIFY(length, size);
    copy_string(function, to + length, from, most, size - length);
    return to;
}

EXPORT void *memcpy(void *to, const void *from, size_t bytes)
{
    return copy("memcpy", to, from, bytes, SIZE_UNKNOWN);
}

EXPORT void *memmove(void *to, const void *from, size_t bytes)
{
    return copy("memmove", to, from, bytes, SIZE_UNKNOWN);
}

EXPORT void *mempcpy(void *to, const void *from, size_t bytes)
{
    return copy("mempcpy", to, from, bytes, SIZE_UNKNOWN) + bytes;
}

EXPORT void *memset(void *to, int value, size_t bytes)
{
    return fill(to, value, bytes, SIZE_UNKNOWN);
}

EXPORT char *strcpy(char *to, const char *from)
{
    copy_string("strcpy", to, from, SIZE_MAX, SIZE_UNKNOWN);
    return to;
}

EXPORT char *stpcpy(char *to, const char *from)
{
    return copy_string("stpcpy", to, from, SIZE_MAX, SIZE_UNKNOWN);
}

EXPORT char *strncpy(char *to, const char *from, size_t bytes)
{
    copy_padded("strncpy", to, from, bytes, SIZE_UNKNOWN);
    return to;
}

EXPORT char *stpncpy(char *to, const char *from, size_t bytes)
{
    return copy_padded("stpncpy", to, from, bytes, SIZE_UNKNOWN);
}

EXPORT char *strcat(char *to, const char *from)
{
    return append("strcat", to, from, SIZE_MAX, SIZE_UNKNOWN);
}

EXPORT char *strncat(char *to, const char *from, size_t most)
{
    return append("strncat", to, from, most, SIZE_UNKNOWN);
}

/* ---- What _FORTIFY_SOURCE calls ---- */

#ifdef __GLIBC__

EXPORT void *__memcpy_chk(void *to, const void *from, size_t bytes, size_t size)
{
    return copy("memcpy", to, from, bytes, size);
}

EXPORT void *__memmove_chk(void *to, const void *from, size_t bytes, size_t size)
{
    return copy("memmove", to, from, bytes, size);
}

EXPORT void *__mempcpy_chk(void *to, const void *from, size_t bytes, size_t size)
{
    return copy("mempcpy", to, from, bytes, size) + bytes;
}

EXPORT void *__memset_chk(void *to, int value, size_t bytes, size_t size)
{
    return fill(to, value, bytes, size);
}

EXPORT char *__strcpy_chk(char *to, const char *from, size_t size)
{
    copy_string("strcpy", to, from, SIZE_MAX, size);
    return to;
}

EXPORT char *__stpcpy_chk(char *to, const char *from, size_t size)
{
    return copy_string("stpcpy", to, from, SIZE_MAX, size);
}

EXPORT char *__strncpy_chk(char *to, const char *from, size_t bytes, size_t size)
{
    copy_padded("strncpy", to, from, bytes, size);
    return to;
}

EXPORT char *__stpncpy_chk(char *to, const char *from, size_t bytes, size_t size)
{
    return copy_padded("stpncpy", to, from, bytes, size);
}

EXPORT char *__strcat_chk(char *to, const char *from, size_t size)
{
    return append("strcat", to, from, SIZE_MAX, size);
}

EXPORT char *__strncat_chk(char *to, const char *from, size_t most, size_t size)
{
    return append("strncat", to, from, most, size);
}

#endif

#endif
