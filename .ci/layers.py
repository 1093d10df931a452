#!/usr/bin/env python3
"""Checks the layers of the core: a file may include only what stands above it in LAYERS, system
calls are made by os_linux.c alone, and errno is set by api.c and override.c alone."""

import re
import sys
from pathlib import Path

LAYERS = [
    "base", "config", "check", "os", "os_linux", "lock", "meta", "options", "size_class", "bitmap",
    "slot_stack", "block_table", "secure", "run_set", "arena_space", "arena_purge", "arena",
    "block_pool", "slab", "large", "cache", "passage", "registry", "delivery", "drain", "holes", "supply",
    "stack_size", "large_cache", "thread_cache", "idle", "quarantine", "thread", "allocator", "background",
    "orphans", "fork", "foreign", "alloc", "stats", "inspect", "print", "exit", "watch", "leaks", "fast_checked", "fast", "api",
    "override", "operators",
]
UPWARD = {("check", "os")}  # the fatal report writes through the seam
SYSTEM_CALLS = re.compile(
    r"\b(mmap|munmap|mprotect|madvise|mremap|syscall|prctl|getrlimit|clock_gettime|sysconf|"
    r"getauxval|write|read|open)\s*\(")

source = Path(__file__).resolve().parents[1] / "c" / "src"
wrong = []
for path in sorted(source.glob("*.[ch]")):
    if path.name == "unity.c":
        continue
    if path.stem not in LAYERS:
        wrong.append(f"{path.name}: in no layer")
        continue
    text = re.sub(r"/\*.*?\*/|\"(?:[^\"\\\n]|\\.)*\"(?<!\.h\")", "", path.read_text(), flags=re.S)
    for included in re.findall(r'#include "([^"]+)\.h"', path.read_text()):
        if "/" in included:
            continue
        if included not in LAYERS:
            wrong.append(f"{path.name}: includes {included}.h, which is in no layer")
        elif LAYERS.index(included) > LAYERS.index(path.stem) and (path.stem, included) not in UPWARD:
            wrong.append(f"{path.name}: includes {included}.h from a layer below")
    if path.stem != "os_linux":
        wrong += [f"{path.name}: calls {call}" for call in SYSTEM_CALLS.findall(text)]
    if path.stem not in ("api", "override", "os_linux") and re.search(r"\berrno\b", text):
        wrong.append(f"{path.name}: touches errno")
if wrong:
    sys.exit("\n".join(wrong))
print(f"{len(LAYERS)} layers, all includes go one way")
