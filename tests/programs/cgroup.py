"""cgroup.py EXHAUST DIRTY: in a cgroup whose memory limit the kernel enforces by killing, a program whose
limit for valloc lies below survives exhaustion, again and again; and with VALLOC_CGROUP=1 free memory
stays below the group's limit. Without that no file of a cgroup is opened. Skipped where no cgroup can be
made. At least DIRTY of 40 MiB stay where nothing limits them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from support import OVERRIDE, SKIPPED, preloaded

LIMIT_MIB = 96


def make_group():
    """A new group with the limit, of either version; None if the machine does not let us."""
    name = f"valloc-test-{os.getpid()}"
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root) / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(LIMIT_MIB << 20))
            return group
        except OSError:
            group.rmdir()
    return None


def run_in(group, command, **options):
    return subprocess.run(
        command, env=preloaded(**options), capture_output=True, text=True, timeout=300,
        preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())))


# Lends 120 MiB and frees 40, none of it touched: tells what is lent and dirty, in bytes.
FREES = """
import ctypes
c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p
blocks = [c.malloc(4 << 20) for _ in range(30)]
for block in blocks[::3]:
    c.free(ctypes.c_void_p(block))
c.valloc_stats_write(1)
"""


def check_free_memory(group):
    """The soft limit is 7/8 of the group's: what is lent leaves almost nothing of it."""
    for cgroup, least, most in (("0", int(sys.argv[2]), 48), ("1", 0, 4)):
        done = run_in(group, [sys.executable, "-c", FREES], VALLOC_CGROUP=cgroup, VALLOC_PURGE_DELAY_MS="3600000")
        if done.returncode != 0:
            sys.exit(f"VALLOC_CGROUP={cgroup}: {done.returncode} {done.stdout}{done.stderr}")
        lent, dirty = (int(figure) >> 20 for figure in re.findall(r" (?:lent|dirty)=(\d+)", done.stdout))
        sealed = 48 if sys.argv[2] == "0" else 0  # freed runs without pages, in secure builds
        if not (80 <= lent < 96 + sealed and least <= dirty <= most):
            sys.exit(f"VALLOC_CGROUP={cgroup}: {lent} MiB lent, {dirty} dirty")
        print(f"VALLOC_CGROUP={cgroup}: {lent} MiB lent, {dirty} dirty")


def files_opened(**options):
    """Under /proc and /sys; None if nothing can be traced."""
    if shutil.which("strace") is None:
        return None
    done = subprocess.run(["strace", "-f", "-e", "trace=openat,open", "-E", f"LD_PRELOAD={OVERRIDE}", "true"],
                          env={**os.environ, **options}, capture_output=True, text=True)
    if done.returncode != 0:
        return None
    return re.findall(r'"(/(?:proc|sys)/[^"]*)"', done.stderr)


def check_files():
    plain, followed = files_opened(), files_opened(VALLOC_CGROUP="1")
    if plain is None:
        print("no program can be traced here")
    elif plain or followed[:1] != ["/proc/self/cgroup"]:
        sys.exit(f"files opened: {plain}, by option {followed}")
    else:
        print(f"files opened: none, by option {len(followed)}")


check_files()
group = make_group()
if group is None:
    print("no cgroup can be made here")
    sys.exit(SKIPPED)
try:
    for hard, least in ((64, 40), (80, 50)):
        done = run_in(group, [sys.argv[1], str(least)], VALLOC_HARD_LIMIT_MIB=str(hard), VALLOC_SOFT_LIMIT_MIB="32")
        if done.returncode != 0:
            sys.exit(f"a hard limit of {hard} MiB in {LIMIT_MIB}: {done.returncode} {done.stdout}{done.stderr}")
        print(f"{LIMIT_MIB} MiB of the cgroup, {hard} for valloc:", done.stdout, end="")
    # Without a limit of its own the kernel's is what ends it.
    done = run_in(group, [sys.argv[1], "40"])
    if done.returncode != -9:
        sys.exit(f"the group's limit of {LIMIT_MIB} MiB is none: {done.returncode} {done.stdout}{done.stderr}")
    check_free_memory(group)
finally:
    group.rmdir()
