"""limits.py EXHAUST: small address spaces and limits, by the kernel and by option, of addresses and of data; exhaustion is
survived."""

import sys

from support import run

# The limit in MiB, and what a program must get of it at least.
for limit, least in (64, 16), (256, 120), (1024, 600):
    print(f"{limit} MiB of address space:", run([sys.argv[1], str(least)], limit_kib=limit << 10), end="")

# RLIMIT_DATA counts what is made accessible: also the tables, 9 MiB at first.
for limit, least in (64, 10), (256, 100):
    limited = ["sh", "-c", f'ulimit -d {limit << 10}; exec "$@"', "sh", sys.argv[1], str(least)]
    print(f"{limit} MiB of data:", run(limited), end="")

# 39 bits of address space: 512 GiB for everything.
run(["python3", "-c", "print(len([str(i) for i in range(100000)]))"], limit_kib=512 << 20)
for mib in "16", "256", "131072":
    run(["python3", "-c", "x = ['a' * i for i in range(5000)]; print(len(x))"],
        more={"VALLOC_RESERVE_MIB": mib, "PYTHONMALLOC": "malloc"})
    print(f"a reserve of {mib} MiB at a time: works")

# The process's own limits.
run([sys.argv[1], "40"], more={"VALLOC_HARD_LIMIT_MIB": "64"})
print("a hard limit of 64 MiB: held, and survived")
run([sys.argv[1], "120"], limit_kib=256 << 10, more={"VALLOC_SOFT_LIMIT_MIB": "8"})
print("a soft limit of 8 MiB: works")
