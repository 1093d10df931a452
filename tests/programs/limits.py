"""limits.py EXHAUST ONE_BLOCK TABLES_MIB: small address spaces and limits, by the kernel and by option, of addresses and
of data; exhaustion is survived."""

import sys

from support import run

PROGRAMS = [
    ["python3", "-c", "x = [str(i) * 3 for i in range(50000)]; print(len(sorted(x)))"],
    ["perl", "-e", 'my %h = map { $_ => "x" x ($_ % 100) } 1..20000; print scalar keys %h'],
    ["gawk", "BEGIN { for (i = 0; i < 50000; i++) a[i] = i i; print length(a) }"],
    ["sqlite3", ":memory:", "create table t(x); with recursive c(i) as (select 1 union all "
                            "select i + 1 from c where i < 20000) insert into t select i from c; "
                            "select count(*) from t"],
    ["git", "--version"],
]

NO_HUGE = {"VALLOC_HUGE_PAGES": "never"}

# The limit in MiB, what a program must get of it at least, and of what kind: huge blocks of which
# little is touched, or all.
for limit, least, kind in (64, 16, []), (256, 120, []), (1024, 600, []), (8192, 5000, ["large"]):
    got = run([sys.argv[1], str(least), *kind], limit_kib=limit << 10,
              more=NO_HUGE if kind else {})
    for program in PROGRAMS:
        run(program, limit_kib=limit << 10)
    print(f"{limit} MiB of address space: {got}", end="")

# One block may take nearly all of it.
for limit, least in (64, 24), (256, 200), (1024, 940), (8192, 7700):
    run([sys.argv[2], str(least)], limit_kib=limit << 10, more=NO_HUGE)
    print(f"{limit} MiB of address space: {least} MiB in one block")
run(["python3", "-c", "print(len(bytearray(600 << 20)))"], limit_kib=1 << 20)

# Small reserves end no earlier.
for mib in 8, 16, 64:
    got = run([sys.argv[1], "1200", "large"], limit_kib=2 << 20,
              more={**NO_HUGE, "VALLOC_RESERVE_MIB": str(mib)})
    print(f"2 GiB of address space in reserves of {mib} MiB: {got}", end="")

# RLIMIT_DATA counts what is made accessible: beyond a small heap tables that a secure build has, too.
for limit, least in (64, 24), (256, 160 - int(sys.argv[3])):
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
