"""footprint.py EMPTY: an empty program needs at most 200 KiB more resident memory on valloc."""

import statistics
import sys

from support import run

LIMIT_KIB = 200
RUNS = 1500  # of libc more or less is mapped around a fault, as its random address has it


def resident(valloc):
    return int(run([sys.argv[1]], valloc).split()[0])


glibc, valloc = map(statistics.mean,
                    zip(*((resident(False), resident(True)) for _ in range(RUNS))))
print(f"an empty program, resident: {glibc:.0f} KiB on glibc, {valloc:.0f} KiB on valloc")
if valloc - glibc > LIMIT_KIB:
    sys.exit(f"more than {LIMIT_KIB} KiB above glibc")
