#!/usr/bin/env python3
"""Checks what `cargo package` puts into the crates: everything that a build and the tests need,
nothing else. The files of valloc-sys are those of the C core."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BY_CARGO = {".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml.orig"}
COMMON = {"Cargo.toml", "LICENSE", "README.md", "build.rs"}


def lines(*command):
    return set(subprocess.run(command, cwd=ROOT, check=True, text=True,
                              stdout=subprocess.PIPE).stdout.split())


def tracked(folder, *patterns):
    """The files in git under a folder, by their names there."""
    files = lines("git", "ls-files", *(f"{folder}/{pattern}" for pattern in patterns))
    return {Path(name).relative_to(folder).as_posix() for name in files}


wanted = {
    "valloc-sys": COMMON | {"bindgen.rs"} | tracked("valloc-sys", "src/*", "tests/*") |
                  {f"c/{name}" for name in tracked("c", "src/*.[ch]", "include/valloc.h*")},
    "valloc": COMMON | {"CHANGELOG.md"} | tracked("valloc-rs", "src/*", "tests/*", "examples/*"),
}
wrong = []
for package, files in wanted.items():
    packed = lines("cargo", "package", "--list", "--allow-dirty", "--package", package) - BY_CARGO
    wrong += [f"{package}: {name} is missing" for name in sorted(files - packed)]
    wrong += [f"{package}: {name} does not belong there" for name in sorted(packed - files)]
if wrong:
    sys.exit("\n".join(wrong))
print(f"packages: {', '.join(f'{len(files)} files in {name}' for name, files in wanted.items())}")
