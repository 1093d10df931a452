"""limits.py EXHAUST ONE_BLOCK TABLES_MIB: small address spaces and limits, by the kernel and by option, of addresses and
of data; exhaustion is survived."""

import sys
from concurrent.futures import ThreadPoolExecutor

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


EXHAUST, ONE_BLOCK, TABLES_MIB = sys.argv[1], sys.argv[2], int(sys.argv[3])

# More than 65536 blocks. A secure build writes to all of a block of less than a MiB when it is freed.
LARGE = 4608 if TABLES_MIB else 8192

# What is tried: a text, a command, its limit of address space in KiB, its environment.
TRIALS = []


def trial(text, command, limit_mib=None, **environment):
    TRIALS.append((text, command, limit_mib and limit_mib << 10, environment))


def run_trial(text, command, limit_kib, environment):
    print(f"{text}: {run(command, limit_kib=limit_kib, more=environment).strip()}")


# The limit in MiB, what a program must get of it at least, and of what kind: huge blocks of which
# little is touched, or all.
for limit, least, kind in (LARGE, LARGE * 5 // 8, ["large"]), (64, 16, []), (256, 120, []), (1024, 600, []):
    text = f"{limit} MiB of address space"
    trial(text, [EXHAUST, str(least), *kind], limit, **(NO_HUGE if kind else {}))
    for program in PROGRAMS:
        trial(f"{text}, {program[0]}", program, limit)

# One block may take nearly all of it.
for limit, least in (64, 24), (256, 200), (1024, 940), (LARGE, LARGE * 15 // 16):
    trial(f"{limit} MiB of address space: {least} MiB in one block", [ONE_BLOCK, str(least)], limit, **NO_HUGE)
trial("1 GiB of address space, python3", ["python3", "-c", "print(len(bytearray(600 << 20)))"], 1 << 10)

# Small reserves end no earlier.
limit = 1024 if TABLES_MIB else 2048
for mib in 8, 16, 64:
    trial(f"{limit} MiB of address space in reserves of {mib} MiB", [EXHAUST, str(limit * 3 // 5), "large"], limit,
          **NO_HUGE, VALLOC_RESERVE_MIB=str(mib))

# RLIMIT_DATA counts what is made accessible: beyond a small heap tables that a secure build has, too.
for limit, least in (64, 24), (256, 160 - TABLES_MIB):
    trial(f"{limit} MiB of data",
          ["sh", "-c", f'ulimit -d {limit << 10}; exec "$@"', "sh", EXHAUST, str(least)])

# 39 bits of address space: 512 GiB for everything.
trial("512 GiB of address space", ["python3", "-c", "print(len([str(i) for i in range(100000)]))"], 512 << 10)
for mib in "16", "256", "131072":
    trial(f"a reserve of {mib} MiB at a time", ["python3", "-c", "x = ['a' * i for i in range(5000)]; print(len(x))"],
          VALLOC_RESERVE_MIB=mib, PYTHONMALLOC="malloc")

# The process's own limits.
trial("a hard limit of 64 MiB", [EXHAUST, "40"], VALLOC_HARD_LIMIT_MIB="64")
trial("a soft limit of 8 MiB", [EXHAUST, "120"], 256, VALLOC_SOFT_LIMIT_MIB="8")

# Most of the time they wait, for other threads or the kernel: several at a time.
with ThreadPoolExecutor(4) as pool:
    for done in [pool.submit(run_trial, *one) for one in TRIALS]:
        done.result()
