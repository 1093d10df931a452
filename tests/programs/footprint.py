"""footprint.py EMPTY ALLOCATES: the resident memory that valloc adds to an empty program, and to one
that allocates once. Most of it are libc's own pages, which registering fork handlers maps."""

import statistics
import sys

from support import run

LIMITS_KIB = (200, 240)
RUNS = 1000  # of libc more or less is mapped around a fault, as its random address has it

failed = False
for program, limit in zip(sys.argv[1:], LIMITS_KIB, strict=True):
    glibc, valloc = map(statistics.mean, zip(*(
        [int(run([program], valloc).split()[0]) for valloc in (False, True)] for _ in range(RUNS))))
    print(f"{program}: resident: {glibc:.0f} KiB on glibc, {valloc - glibc:+.0f} KiB on valloc, "
          f"limit {limit:+}")
    failed |= valloc - glibc > limit
sys.exit(failed)
