"""footprint.py EMPTY ALLOCATES: the resident memory that valloc adds to an empty program, and to one
that allocates once. Most of it are libc's own pages, which registering fork handlers maps."""

import statistics
import sys

from support import run

LIMITS_KIB = (96, 200)
RUNS = 1000  # of libc more or less is mapped around a fault, as its random address has it

failed = False
for program, limit in zip(sys.argv[1:], LIMITS_KIB, strict=True):
    glibc, valloc = zip(*([int(run([program], valloc).split()[0]) for valloc in (False, True)]
                          for _ in range(RUNS)))
    more = statistics.mean(valloc) - statistics.mean(glibc)
    error = (statistics.variance(valloc) / RUNS + statistics.variance(glibc) / RUNS) ** 0.5
    print(f"{program}: resident: {statistics.mean(glibc):.0f} KiB on glibc, {more:+.0f} KiB on "
          f"valloc, standard error {error:.1f} KiB, limit {limit:+}")
    failed |= more - 2 * error > limit
sys.exit(failed)
