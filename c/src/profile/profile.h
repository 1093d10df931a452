/* profile.h: the heap profiler but for the choice of samples.
 *
 * api/sampling.h draws allocations. What it draws it records, with the frame of the function that
 * the program has called, and marks, so that a free of it leaves the fast path and tells of its
 * end. An allocation that changes its size ends and is drawn again.
 *
 * Until a profile starts nothing is mapped and nothing runs. One lock guards the table: samples
 * are rare (one per 512 KiB allocated). It is a leaf: no other lock is taken under it, and no
 * function of the program is called; a dump copies the table first. Any thread. The table is
 * a mapping of its own, which valloc's statistics do not count. */
#ifndef VA_PROFILE_H
#define VA_PROFILE_H

#include "os/lock.h"
#include "profile/stack_walk.h"

/* Whether samples represent all allocations or only those that stay for a while: then nothing is
 * said of what was allocated since the start. */
typedef enum ProfileMode { PROFILE_LIVE, PROFILE_ALL } ProfileMode;

typedef enum ProfileFormat {
    PROFILE_PPROF,       /* profile.proto, for `go tool pprof` */
    PROFILE_HEAP,        /* the text that google-pprof reads */
    PROFILE_FOLDED,      /* "main;f;g BYTES", for flame graphs: of the live heap */
    PROFILE_FOLDED_PEAK, /* of the heap at its peak */
    PROFILE_FOLDED_ALL,  /* of all that was allocated */
    PROFILE_TEXT,        /* for a person */
    PROFILE_PPROF_ALL    /* as the first one; readers show first what was allocated */
} ProfileFormat;

/* Gets a dump piece by piece, and may end it by false. It may allocate. */
typedef bool ProfileSink(void *context, const void *bytes, size_t count);

/* The mean of bytes between samples, 0 for the default, and the frames of a call stack, 0 for the
 * default. Whatever was known is dropped. False if a profile is on, or there is no memory. Reads a
 * link in /proc: a program that will forbid that starts its profile before. */
bool va_profile_start(size_t rate, ProfileMode mode, size_t depth);
/* Takes no more samples; those that live are followed, and can be dumped. */
void va_profile_stop(void);

/* Requests above it are sampled: 0 while a profile is on, else PTRDIFF_MAX. A hint, too. */
extern _Atomic size_t va_profile_above;

/* The mean of bytes between samples, 0 if no profile is on. A hint: it takes no lock. */
extern _Atomic size_t va_profile_rate_bytes; /* relaxed: nothing else is read by it */
VA_INLINE size_t va_profile_rate(void)
{
    return atomic_load_explicit(&va_profile_rate_bytes, memory_order_relaxed);
}

typedef struct ProfileAllocation {
    const void *pointer;
    size_t size;           /* bytes that were asked for */
    double probability;    /* with which it was sampled */
    const void *allocator; /* whose it is; never followed */
    const char *label;     /* its name, or NULL */
    uint32_t thread;
    uint32_t class; /* size class */
} ProfileAllocation;

/* SampleTable a sample, with the stack from VA_STACK_CALLER on. False if it is not kept, for
 * example since no profile is on: then its end need not be told. */
bool va_profile_sample(const ProfileAllocation *allocation, StackFrame caller);
/* A sample is freed; false if it is none. */
bool va_profile_forget(const void *pointer);
/* All of an allocator's are. */
void va_profile_forget_allocator(const void *allocator);

/* What the live samples stand for. */
uint64_t va_profile_live_bytes(void);

/* False if no profile was ever started, there is no memory for a copy, or the sink has said so. */
bool va_profile_dump(ProfileFormat format, ProfileSink *sink, void *context);

typedef struct ProfileSample {
    const void *pointer;
    size_t size;
    double objects, bytes; /* that it stands for */
    uint64_t age_ms;
    const char *label;
    const uintptr_t *stack; /* return addresses, the innermost first; valid during the call */
    size_t depth;
    uint32_t thread, class;
} ProfileSample;

/* Calls visit for each live sample until it returns other than 0; returns that, or 0. */
int va_profile_visit(int (*visit)(const ProfileSample *sample, void *context), void *context);

/* Around fork; and in the child, if there were other threads. */
extern Lock va_profile_lock;
void va_profile_fork(void);

#endif
