/* probe.h: static probes (USDT), where bpftrace, perf and SystemTap attach to a running program.
 *
 * A probe is a nop and a note in the file that says where it is and which registers hold its
 * arguments. Builds that find no <sys/sdt.h> have none, nor do those with VALLOC_PROBES=0.
 * docs/profiling.md lists them. */
#ifndef VA_PROBE_H
#define VA_PROBE_H

#include "base/base.h"

#if !defined(VALLOC_PROBES) && defined(__has_include)
#if __has_include(<sys/sdt.h>)
#define VALLOC_PROBES 1
#endif
#endif

#if defined(VALLOC_PROBES) && VALLOC_PROBES
#include <sys/sdt.h>
#define VA_PROBE1(provider, name, a) DTRACE_PROBE1(provider, name, a)
#define VA_PROBE2(provider, name, a, b) DTRACE_PROBE2(provider, name, a, b)
#define VA_PROBE3(provider, name, a, b, c) DTRACE_PROBE3(provider, name, a, b, c)
#else
#define VA_PROBE1(provider, name, a) ((void)(a))
#define VA_PROBE2(provider, name, a, b) ((void)(a), (void)(b))
#define VA_PROBE3(provider, name, a, b, c) ((void)(a), (void)(b), (void)(c))
#endif

#endif
