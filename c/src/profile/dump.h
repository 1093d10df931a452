/* dump.h: a copy of a profile on its way out. It is mapped for one dump: no memory of the heap is
 * used, no lock is held while the program's sink runs or the loader is asked for names. */
#ifndef VA_DUMP_H
#define VA_DUMP_H

#include "profile/modules.h"
#include "profile/profile.h"
#include "profile/sample_table.h"

typedef struct Dump {
    ProfileSink *sink;
    void *context;
    size_t rate;
    ProfileMode mode;
    uint64_t now_ms;
    bool failed; /* the sink has ended it */
    size_t used;
    char buffer[VA_PROFILE_BUFFER_BYTES];
    double rest[VA_PROFILE_CALL_STACKS][2]; /* of objects and bytes: what rounding has left over */
    Modules modules;
    SampleTable table; /* without indexes */
} Dump;

/* Whole pages of any size that there is. */
#define VA_SAMPLE_TABLE_BYTES (va_align_up(sizeof(SampleTable), VA_BLOCK_BYTES))
#define VA_DUMP_BYTES (va_align_up(sizeof(Dump), VA_BLOCK_BYTES))

void va_dump_bytes(Dump *dump, const void *bytes, size_t count);
/* Passes on what is in the buffer. False if the sink has failed. */
bool va_dump_flush(Dump *dump);

void va_dump_pprof(Dump *dump, ProfileFormat format);
/* All other formats. */
void va_dump_text(Dump *dump, ProfileFormat format);

/* Sums of fractions as whole numbers: what is rounded off goes into the next one. */
uint64_t va_dump_whole(double *rest, double value);

#endif
