#!/usr/bin/env python3
"""What preloading an allocator adds to programs that do next to nothing, in turns.

startup.py BUILD [--rounds N] [--allocators A,B] [--extra NAME=LIBRARY]...

Prints medians of processor time (user and system, with children) and what they are times that of the
program without any preloading. `empty` is a library without a line of code: what the dynamic loader
takes for any library. How much memory a small program takes is a test (tests/programs/footprint.py)."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from allocators import find, in_turn, positive

# Name -> how many runs make one round, command.
PROGRAMS = {
    "true": (20, ["/bin/true"]),
    "ls": (20, ["/bin/ls", "/"]),
    "500 forks": (1, ["/bin/sh", "-c", "i=0; while [ $i -lt 500 ]; do (:); i=$((i+1)); done"]),
    "500 commands": (1, ["/bin/sh", "-c",
                         "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done"]),
}


def run(command, library):
    """Microseconds that it took."""
    variables = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    if library:
        variables["LD_PRELOAD"] = library
    output = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(command[0], command, variables, file_actions=output)
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)} with {library}: status {status}")
    return (usage.ru_utime + usage.ru_stime) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="folder with libvalloc-override.so")
    parser.add_argument("--rounds", type=positive, default=40)
    parser.add_argument("--allocators", type=lambda text: text.split(","))
    parser.add_argument("--extra", action="append", default=[])
    options = parser.parse_args()
    libraries = find(options.build, options.allocators, options.extra)
    libraries.pop("glibc", None)
    with tempfile.TemporaryDirectory() as folder:
        empty = str(Path(folder) / "empty.so")
        subprocess.run(["cc", "-shared", "-x", "c", os.devnull, "-o", empty], check=True)
        libraries = {"nothing": None, "empty": empty, **libraries}
        print("microseconds of processor time, times that without preloading")
        print(f"{'':14}", *(f"{name:>16}" for name in libraries))
        for program, (runs, command) in PROGRAMS.items():
            times = defaultdict(list)
            for turn in range(options.rounds * runs):
                for name, library in in_turn(libraries.items(), turn):
                    times[name].append(run(command, library))
            medians = {name: statistics.median(times[name]) for name in libraries}
            print(f"{program:14}",
                  *(f"{median:>9.0f} {median / medians['nothing']:>6.3f}"
                    for median in medians.values()), flush=True)



if __name__ == "__main__":
    main()
