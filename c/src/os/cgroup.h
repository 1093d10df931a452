/* cgroup.h: the memory limit of the cgroup that the process is in, by files of the kernel. Only by
 * option: nothing else tells whether there is one, and later on a sandbox may kill for opening
 * files. So it is read once, with the options, on the caller's stack. */
#ifndef VA_CGROUP_H
#define VA_CGROUP_H

#include "base/base.h"

/* As va_os_read_file; tests have files of their own. */
typedef size_t CgroupRead(const char *path, char *buffer, size_t bytes);

/* The lowest limit of the cgroup and its parents in bytes; UINT64_MAX if there is none. */
uint64_t va_cgroup_limit(CgroupRead *source);

#endif
