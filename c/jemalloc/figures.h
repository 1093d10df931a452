/* figures.h: statistics as jemalloc has them. They are those of the last refresh. */
#ifndef JEMALLOC_FIGURES_H
#define JEMALLOC_FIGURES_H

#include <stddef.h>
#include <stdint.h>

/* Of an arena, or of all. In bytes: allocated <= active <= resident, active <= mapped. */
typedef struct Figures {
    size_t allocated;
    size_t small; /* of allocated: in slabs */
    size_t large; /* of allocated: runs */
    size_t active;
    size_t dirty;
    size_t mapped;
    size_t resident;
    /* Of all arenas only, else 0. */
    size_t metadata;
    size_t retained;
    size_t purged;
    size_t cached;
    size_t threads;
} Figures;

/* Of a size class of an arena, or of all. */
typedef struct ClassFigures {
    size_t used; /* live or cached, as in jemalloc: defragmentation cannot free what is cached */
    size_t slabs;
} ClassFigures;

/* Size classes, of slots and then of runs up to 1 MiB, from 0; 0 bytes: there is no such class. */
size_t va_jemalloc_figures_class_bytes(size_t class);
size_t va_jemalloc_figures_slots(void);   /* how many classes of slots */
size_t va_jemalloc_figures_classes(void); /* how many classes in all */

/* What is read from now on is of now. Returns how often this was called. */
uint64_t va_jemalloc_figures_refresh(void);
uint64_t va_jemalloc_figures_epoch(void);

/* Fill in the figures of an arena, by number or MALLCTL_ARENAS_ALL. Return 0, or ENOENT. */
int va_jemalloc_figures_arena(size_t arena, Figures *figures);
int va_jemalloc_figures_class(size_t arena, size_t class, ClassFigures *figures);

#endif
