/* subject.h: the allocator under test by one set of names: valloc_* where TEST_API is set, else
 * what malloc.h declares, which the override library then serves. */
#ifndef SUBJECT_H
#define SUBJECT_H

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

/* glibc 2.36 does not declare them; the override has them. */
void free_sized(void *ptr, size_t size);
void free_aligned_sized(void *ptr, size_t alignment, size_t size);

#ifdef TEST_API
#define SUBJECT(name) valloc_##name
#define subject_usable_size valloc_usable_size
#else
#define SUBJECT(name) name
#define subject_usable_size malloc_usable_size
#endif

#define subject_malloc SUBJECT(malloc)
#define subject_calloc SUBJECT(calloc)
#define subject_realloc SUBJECT(realloc)
#define subject_reallocarray SUBJECT(reallocarray)
#define subject_free SUBJECT(free)
#define subject_free_sized SUBJECT(free_sized)
#define subject_free_aligned_sized SUBJECT(free_aligned_sized)
#define subject_aligned_alloc SUBJECT(aligned_alloc)
#define subject_posix_memalign SUBJECT(posix_memalign)
#define subject_memalign SUBJECT(memalign)

#endif
