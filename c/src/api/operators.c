/* operators.c: C++'s operator new and delete, for the override library.
 *
 * A program may replace malloc, or some of the operators only. The others are then built on those,
 * as the C++ standard and the C++ runtimes say: new[] on new, new on malloc. So what this file
 * calls by name is what the whole process has under that name: the names in
 * cmake/replaceable.list are bound when the library is loaded. As long as all of them are valloc's,
 * the forms that are called most take a fast path.
 *
 * Without memory a form calls the one of the same name in its caller's C++ runtime, which asks the
 * new_handler and throws: this library is preloaded into C programs, too, and brings no runtime.
 * operators.cpp has what remains. No locks of its own; any thread. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>

#include "api/fast.h"
#include "api/sampling.h"
#include "base/check.h"

#define VALLOC_NO_SHORT_NAMES
#include "../../include/valloc.h"

#define EXPORT __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)

typedef const void *Nothrow; /* const std::nothrow_t & */
typedef size_t Alignment;    /* std::align_val_t; both platforms mangle size_t as m */

/* operators.cpp: what needs C++'s exceptions. An alignment of 0 is malloc's. */
_Noreturn VA_COLD void va_new_report(void);
bool va_new_can_throw(void);
void *va_new_or_throw(size_t size, size_t alignment);
void *va_new_or_null(size_t size, size_t alignment, bool array);

/* ---- What is replaced ---- */

/* The forms that others are built on. */
EXPORT void *_Znwm(size_t size);
EXPORT void *_Znam(size_t size);
EXPORT void *_ZnwmSt11align_val_t(size_t size, Alignment alignment);
EXPORT void *_ZnamSt11align_val_t(size_t size, Alignment alignment);
EXPORT void _ZdlPv(void *ptr);
EXPORT void _ZdaPv(void *ptr);
EXPORT void _ZdlPvSt11align_val_t(void *ptr, Alignment alignment);
EXPORT void _ZdaPvSt11align_val_t(void *ptr, Alignment alignment);

/* This library's own under a name that nobody replaces. */
#define OWN(name)                                                                                  \
    extern __typeof__(name) own##name __attribute__((alias(#name), visibility("hidden")))
OWN(_Znwm);
OWN(_Znam);
OWN(_ZnwmSt11align_val_t);
OWN(_ZnamSt11align_val_t);
OWN(_ZdlPv);
OWN(_ZdaPv);
OWN(_ZdlPvSt11align_val_t);
OWN(_ZdaPvSt11align_val_t);
void *va_own_malloc(size_t size); /* override.c */
void va_own_free(void *ptr);

/* Sizes below it take the fast paths; 0 unless all these names are known to be valloc's. It is
 * compared in place of the largest small size, at no cost. Written with one value only. */
static size_t fast_below;

static bool same(void (*function)(void), void (*own)(void))
{
    VA_FORGET(function); /* the compiler may not know that others replace it */
    return function == own;
}
#define SAME(name, own) same((void (*)(void))(name), (void (*)(void))(own))

static VA_STARTUP bool find_all_own(void)
{
    bool own = SAME(malloc, va_own_malloc) && SAME(free, va_own_free) && SAME(_Znwm, own_Znwm) &&
               SAME(_Znam, own_Znam) && SAME(_ZnwmSt11align_val_t, own_ZnwmSt11align_val_t) &&
               SAME(_ZnamSt11align_val_t, own_ZnamSt11align_val_t) && SAME(_ZdlPv, own_ZdlPv) &&
               SAME(_ZdaPv, own_ZdaPv) && SAME(_ZdlPvSt11align_val_t, own_ZdlPvSt11align_val_t) &&
               SAME(_ZdaPvSt11align_val_t, own_ZdaPvSt11align_val_t);
    if (own && !VA_WATCHED)
        __atomic_store_n(&fast_below, VA_SMALL_MAX - VA_CANARY_BYTES + 1, __ATOMIC_RELAXED);
    return own;
}

VA_INLINE bool is_all_own(void)
{
    return va_likely(VA_GLANCE(fast_below) != 0) || find_all_own();
}

VA_INLINE bool is_fast(size_t size)
{
    if (va_unlikely(size >= VA_GLANCE(fast_below)))
        return false;
    if (size > VA_SMALL_MAX - VA_CANARY_BYTES)
        __builtin_unreachable(); /* so that the fast path does not compare again */
    return true;
}

/* ---- Without memory ---- */

#ifdef __GLIBC__
static VA_COLD struct link_map *object_of(const void *address)
{
    Dl_info info;
    struct link_map *object = NULL;
    return dladdr1(address, &info, (void **)&object, RTLD_DL_LINKMAP) != 0 ? object : NULL;
}

/* What a plugin would find, whose runtime the program does not see. A caller that wraps the
 * process's function would find its own, which calls back: NULL, as for the program itself. */
static VA_COLD void *find_in_plugin(const char *name, const void *caller)
{
    const struct link_map *object = object_of(caller);
    void *handle = object != NULL && *object->l_name != '\0'
                       ? dlopen(object->l_name, RTLD_LAZY | RTLD_NOLOAD)
                       : NULL;
    if (handle == NULL)
        return NULL;
    void *found = dlsym(handle, name);
    dlclose(handle);
    bool own = found == dlsym(RTLD_DEFAULT, name) || object_of(found) == object_of(&fast_below);
    return own ? NULL : found;
}
#else
static VA_COLD void *find_in_plugin(const char *name, const void *caller)
{
    (void)name, (void)caller;
    return NULL;
}
#endif

/* The function that the caller would call but for this library; NULL if there is none. */
static VA_COLD void *find_in_runtime(const char *name, const void *caller)
{
    void *found = find_in_plugin(name, caller);
    return found != NULL ? found : dlsym(RTLD_NEXT, name);
}

_Noreturn VA_COLD void va_new_report(void)
{
    Report report = {.length = 0};
    va_report_text(&report,
                   "valloc: operator new: out of memory, and no C++ runtime to throw with");
    va_report_abort(&report);
}

/* Asks the new_handler, and throws. */
static VA_COLD void *fail(size_t size, Alignment alignment, const void *caller)
{
    void *next = find_in_runtime(alignment != 0 ? "_ZnwmSt11align_val_t" : "_Znwm", caller);
    if (next == NULL)
        return va_new_or_throw(size, alignment);
    if (alignment != 0)
        return ((void *(*)(size_t, Alignment))next)(size, alignment);
    return ((void *(*)(size_t))next)(size);
}

/* The same, but NULL where that throws. */
static VA_COLD void *fail_nothrow(size_t size, Alignment alignment, bool array, Nothrow nothrow,
                                  const void *caller)
{
    static const char names[2][2][40] = {
        {"_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t"},
        {"_ZnwmSt11align_val_tRKSt9nothrow_t", "_ZnamSt11align_val_tRKSt9nothrow_t"}};
    void *next = find_in_runtime(names[alignment != 0][array], caller);
    if (next == NULL)
        return va_new_can_throw() ? va_new_or_null(size, alignment, array) : NULL;
    if (alignment != 0)
        return ((void *(*)(size_t, Alignment, Nothrow))next)(size, alignment, nothrow);
    return ((void *(*)(size_t, Nothrow))next)(size, nothrow);
}

/* ---- new ---- */

/* malloc and aligned_alloc of the process, as the runtimes call them. */
static VA_APART void *allocate(size_t size, Alignment alignment, StackFrame caller)
{
    if (va_sampling_wants(size) && is_all_own() && (alignment & (alignment - 1)) == 0)
        return va_memtag_out(va_sampling_allocate(&va_process, size,
                                                  va_max(alignment, VA_MIN_ALIGN), false, caller));
    if (alignment == 0)
        return malloc(va_max(size, 1));
    if (is_all_own())
        return valloc_aligned_alloc(alignment, size);
    return size <= PTRDIFF_MAX ? aligned_alloc(alignment, va_align_up(size, alignment)) : NULL;
}

static VA_APART void *new_slow(size_t size, Alignment alignment, const void *caller)
{
    void *slot = alignment == 0 && is_fast(size) ? va_sampling_allocate_fast(size) : NULL;
    if (slot != NULL)
        return slot;
    is_all_own(); /* the next one may take the fast path */
    void *block = allocate(size, alignment, VA_STACK_CALLER);
    return va_likely(block != NULL) ? block : fail(size, alignment, caller);
}

static VA_APART void *new_nothrow_slow(size_t size, Alignment alignment, bool array,
                                       Nothrow nothrow, const void *caller)
{
    if (!is_all_own())
        return va_new_or_null(size, alignment, array);
    void *block = allocate(size, alignment, VA_STACK_CALLER);
    return va_likely(block != NULL) ? block : fail_nothrow(size, alignment, array, nothrow, caller);
}

EXPORT void *_Znwm(size_t size)
{
    void *slot = is_fast(size) ? va_allocate_fast(size) : NULL;
    return va_likely(slot != NULL) ? va_memtag_out(slot) : new_slow(size, 0, CALLER);
}

EXPORT void *_Znam(size_t size)
{
    return _Znwm(size);
}

EXPORT void *_ZnwmSt11align_val_t(size_t size, Alignment alignment)
{
    return new_slow(size, alignment, CALLER);
}

EXPORT void *_ZnamSt11align_val_t(size_t size, Alignment alignment)
{
    return _ZnwmSt11align_val_t(size, alignment);
}

EXPORT void *_ZnwmRKSt9nothrow_t(size_t size, Nothrow nothrow)
{
    void *slot = is_fast(size) ? va_allocate_fast(size) : NULL;
    return va_likely(slot != NULL) ? va_memtag_out(slot)
                                   : new_nothrow_slow(size, 0, false, nothrow, CALLER);
}

EXPORT void *_ZnamRKSt9nothrow_t(size_t size, Nothrow nothrow)
{
    void *slot = is_fast(size) ? va_allocate_fast(size) : NULL;
    return va_likely(slot != NULL) ? va_memtag_out(slot)
                                   : new_nothrow_slow(size, 0, true, nothrow, CALLER);
}

EXPORT void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, Alignment alignment, Nothrow nothrow)
{
    return new_nothrow_slow(size, alignment, false, nothrow, CALLER);
}

EXPORT void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, Alignment alignment, Nothrow nothrow)
{
    return new_nothrow_slow(size, alignment, true, nothrow, CALLER);
}

/* ---- delete ---- */

EXPORT void _ZdlPv(void *ptr)
{
    free(ptr);
}

EXPORT void _ZdaPv(void *ptr)
{
    _ZdlPv(ptr);
}

EXPORT void _ZdlPvRKSt9nothrow_t(void *ptr, Nothrow nothrow)
{
    (void)nothrow;
    _ZdlPv(ptr);
}

EXPORT void _ZdaPvRKSt9nothrow_t(void *ptr, Nothrow nothrow)
{
    (void)nothrow;
    _ZdaPv(ptr);
}

EXPORT void _ZdlPvSt11align_val_t(void *ptr, Alignment alignment)
{
    (void)alignment;
    free(ptr);
}

EXPORT void _ZdaPvSt11align_val_t(void *ptr, Alignment alignment)
{
    _ZdlPvSt11align_val_t(ptr, alignment);
}

EXPORT void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *ptr, Alignment alignment, Nothrow nothrow)
{
    (void)nothrow;
    _ZdlPvSt11align_val_t(ptr, alignment);
}

EXPORT void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *ptr, Alignment alignment, Nothrow nothrow)
{
    (void)nothrow;
    _ZdaPvSt11align_val_t(ptr, alignment);
}

static VA_APART void delete_sized_slow(void *ptr, size_t size)
{
    if (is_all_own())
        valloc_free_sized(ptr, size);
    else
        _ZdlPv(ptr);
}

static VA_APART void delete_array_sized_slow(void *ptr, size_t size)
{
    if (is_all_own())
        valloc_free_sized(ptr, size);
    else
        _ZdaPv(ptr);
}

EXPORT void _ZdlPvm(void *ptr, size_t size)
{
    if (va_unlikely(!is_fast(size) || va_memtag_on || !va_free_sized_fast(ptr, size)))
        delete_sized_slow(ptr, size);
}

EXPORT void _ZdaPvm(void *ptr, size_t size)
{
    if (va_unlikely(!is_fast(size) || va_memtag_on || !va_free_sized_fast(ptr, size)))
        delete_array_sized_slow(ptr, size);
}

EXPORT void _ZdlPvmSt11align_val_t(void *ptr, size_t size, Alignment alignment)
{
    if (is_all_own())
        valloc_free_aligned_sized(ptr, alignment, size);
    else
        _ZdlPvSt11align_val_t(ptr, alignment);
}

EXPORT void _ZdaPvmSt11align_val_t(void *ptr, size_t size, Alignment alignment)
{
    if (is_all_own())
        valloc_free_aligned_sized(ptr, alignment, size);
    else
        _ZdaPvSt11align_val_t(ptr, alignment);
}
