/* modules.h: which program or library the code at an address belongs to, as the loader knows it. */
#ifndef VA_MODULES_H
#define VA_MODULES_H

#include "base/config.h"

/* A segment of code. */
typedef struct Module {
    uintptr_t start, end;
    uintptr_t bias;  /* what is added to addresses in the file */
    uint64_t offset; /* of the segment in the file */
    uint32_t path;   /* position in paths */
    uint32_t build_id_bytes;
    unsigned char build_id[VA_PROFILE_BUILD_ID_BYTES];
} Module;

typedef struct Modules {
    uint32_t count, paths_used;
    Module list[VA_PROFILE_MODULES]; /* the program first */
    char paths[VA_PROFILE_PATHS_BYTES];
} Modules;

/* Of zeroed memory. The loader has no path for the program itself. Called without locks: the
 * loader's is taken. What does not fit is left out. */
void va_modules_read(Modules *modules, const char *program);

/* NULL if it is of none: code that was made at run time. */
const Module *va_modules_find(const Modules *modules, uintptr_t address);

#endif
