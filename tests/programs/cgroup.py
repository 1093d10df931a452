"""cgroup.py EXHAUST: in a cgroup whose memory limit the kernel enforces by killing, a program whose
limit for valloc lies below survives exhaustion, again and again; skipped where no cgroup can be made."""

import os
import subprocess
import sys
from pathlib import Path

from support import SKIPPED, preloaded

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
finally:
    group.rmdir()
