"""Instructions below the functions call_* of a program, counted by callgrind.

The program makes every counted call in a function of its own, named call_NAME, and does so below a
function named `measured`, in any thread (benches/speed/operations.c). The instructions of call_NAME
itself, and of the loop around it, are not counted."""

import os
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict, namedtuple
from pathlib import Path

# calls, costs: NAME -> how often call_NAME was left, and the instructions executed below it.
# own: file name of a program or library -> instructions executed in it.
Profile = namedtuple("Profile", "calls costs own")


def available():
    return shutil.which("valgrind") is not None


def count(command, library=""):
    """The profile of a command with a library preloaded; None when it ends with 3, which says
    that this allocator has no such operation."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        # LD_BIND_NOW: no symbol is looked up while instructions are counted.
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--zero-before=measured",
             "--soname-synonyms=somalloc=none", *map(str, command)],
            env={**os.environ, "LD_PRELOAD": library, "LD_BIND_NOW": "1"},
            capture_output=True, text=True)
        if done.returncode == 3:
            return None
        if done.returncode != 0:
            raise RuntimeError(f"{command} on {library or 'glibc'}: {done.stderr[-2000:]}")
        return read(out.read_text().splitlines())


def read(lines):
    """A profile from callgrind's file: objects and functions have their name beside their number
    once, later the number alone; a line of a call's own is followed by one of what it cost."""
    names = {}
    profile = Profile(defaultdict(int), defaultdict(int), defaultdict(int))
    where = {"ob": None, "fn": ""}
    calls = None
    for line in lines:
        named = re.match(r"(ob|fn|cob|cfn)=\((\d+)\)(?: (\S+))?", line)
        if named:
            kind, number, name = named.groups()
            key = (kind.removeprefix("c"), number)
            if name:
                names[key] = name
            if kind in where:
                where[kind] = names[key]
        elif line.startswith("calls="):
            calls = int(line[len("calls="):].split()[0])
        elif re.match(r"[-+*\d]", line):
            cost = int(line.split()[1])
            if calls is None:
                profile.own[Path(where["ob"]).name] += cost
            elif where["fn"].startswith("call_"):
                profile.calls[where["fn"].removeprefix("call_")] += calls
                profile.costs[where["fn"].removeprefix("call_")] += cost
            calls = None
    return profile
