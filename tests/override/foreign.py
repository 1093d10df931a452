"""foreign.py FOREIGN NEXT: what VALLOC_FOREIGN makes of pointers of another allocator."""

import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "programs"))
from support import OVERRIDE, preloaded

FOREIGN, NEXT = sys.argv[1:]
REPORT = "valloc: free: not a pointer of this allocator (pointer 0x"
FREED = "valloc: free: freed already, or not the start of an allocation (pointer 0x"
IGNORED = "valloc: free: ignored, as all that follow: not a pointer of this allocator (pointer 0x"
UNKNOWN = "valloc: option ignored: VALLOC_FOREIGN=forwards (understood: abort, forward, ignore)\n"


def check(what, option, status, said, **more):
    if option is not None:
        more["VALLOC_FOREIGN"] = option
    done = subprocess.run([FOREIGN, what], env=preloaded(**more), capture_output=True, text=True)
    lines = done.stderr.splitlines(keepends=True)
    fits = len(lines) == len(said) and all(line.startswith(start) for line, start in zip(lines, said))
    if done.returncode != status or not fits:
        sys.exit(f"{what}, {option}: ended with {done.returncode} and said {done.stderr!r}, "
                 f"not {status} and {said}")
    print(f"{what}, {option}: as it should be")


os.environ.pop("VALLOC_FOREIGN", None)
check("next", "forward", 0, [], LD_PRELOAD=f"{OVERRIDE} {NEXT}")
check("libc", "forward", 0, [])
check("ignore", "ignore", 0, [IGNORED])
check("abort", None, -signal.SIGABRT, [REPORT])
check("abort", "abort", -signal.SIGABRT, [REPORT])
check("abort", "forwards", -signal.SIGABRT, [UNKNOWN, REPORT])
for option in "abort", "forward", "ignore":
    check("arena", option, -signal.SIGABRT, [FREED])
