"""footprint.py EMPTY: an empty program needs at most 200 KiB more resident memory on valloc."""

import statistics
import sys

from support import run

LIMIT_KIB = 200


def resident(valloc):
    return statistics.median(int(run([sys.argv[1]], valloc).split()[0]) for _ in range(41))


glibc, valloc = resident(False), resident(True)
print(f"an empty program, resident: {glibc} KiB on glibc, {valloc} KiB on valloc")
if valloc - glibc > LIMIT_KIB:
    sys.exit(f"more than {LIMIT_KIB} KiB above glibc")
