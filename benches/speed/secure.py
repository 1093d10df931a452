#!/usr/bin/env python3
"""Measures the cost of the checks and of the secure build's features, each alone and all together, and
mimalloc, mimalloc's secure build and scudo. Prints a Markdown table of medians: nanoseconds per operation
of micro.c, and processor seconds of whole programs, measured in turns.

secure.py BUILD [--out FOLDER] [--rounds N] [--programs A,B] [--only A,B]

--out saves every run as a line of secure-samples.csv (subject: pattern or program, allocator, round,
ns, cpu_s, peak_mib), and the table. Builds the variants beside BUILD. mimalloc's secure build is
compiled from the sources that cargo has for the Rust benchmarks; scudo is part of clang."""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benches" / folder) for folder in ("common", "programs", "report")]
from allocators import Part, environment, find, in_turn, known, positive  # noqa: E402
import run as whole  # noqa: E402
import tables  # noqa: E402

FEATURES = ["random", "quarantine", "zero", "canary", "guard", "copies"]
BUILDS = ["unchecked", "valloc", *FEATURES, "all", "mimalloc", "mimalloc secure", "scudo"]
COLUMNS = ["subject", "allocator", "round", "ns", "cpu_s", "peak_mib"]
PATTERNS = [("pair", "64"), ("pair", "4096"), ("replace", "100000"), ("bulk", "64", "random")]


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{command}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def variant(build, name, option):
    """The override library with one feature, with all of them, or without checks."""
    folder = build.parent / f"secure-{name}"
    run("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
        "-DVALLOC_BUILD_TESTS=OFF", option)
    run("cmake", "--build", folder, "--target", "valloc_override")
    return folder / "libvalloc-override.so"


def secure_mimalloc(build):
    """mimalloc 2 with all of its mitigations, built by its own build system."""
    packages = json.loads(run("cargo", "metadata", "--format-version", "1", cwd=ROOT))["packages"]
    manifest = next(p["manifest_path"] for p in packages if p["name"] == "libmimalloc-sys")
    source = Path(manifest).parent / "c_src" / "mimalloc" / "v2"
    library = build.parent / "libmimalloc-secure.so"
    run("cc", "-std=gnu11", "-O3", "-DNDEBUG", "-fPIC", "-shared", "-fvisibility=hidden",
        "-fno-builtin-malloc", "-ftls-model=initial-exec", "-DMI_SHARED_LIB", "-DMI_SHARED_LIB_EXPORT",
        "-DMI_MALLOC_OVERRIDE", "-DMI_SECURE=4", "-I", source / "include", source / "src" / "static.c",
        "-o", library, "-lpthread")
    return library


def library(build, name):
    """The library to preload, built if necessary."""
    if name in FEATURES:
        return variant(build, name, f"-DVALLOC_SECURE={name}")
    if name == "all":
        return variant(build, "on", "-DVALLOC_SECURE=ON")
    if name == "unchecked":
        return variant(build, name, "-DVALLOC_CHECKS=OFF")
    if name == "mimalloc secure":
        return secure_mimalloc(build)
    if name == "scudo":
        return run("clang", "-print-file-name=libclang_rt.scudo_standalone-x86_64.so")
    return find(build, [name])[name]


def patterns(build, libraries, rounds, part):
    micro = build / "benches" / "micro"
    for place, pattern in enumerate(PATTERNS):
        for turn in range(rounds):
            for name, library in in_turn(libraries.items(), place + turn):
                done = subprocess.run([micro, *pattern], env=environment(library),
                                      capture_output=True, text=True)
                if done.returncode != 0:
                    part.fail(f"{' '.join(pattern)} on {name}: {done.stderr}")
                    continue
                allocation, freeing, _ = map(float, done.stdout.split())
                part.keep((" ".join(pattern), name, turn, allocation + freeing, "", ""))


class Programs:
    """Keeps what run.py measures as samples of a part."""

    def __init__(self, part):
        self.part = part
        self.fail = part.fail

    def keep(self, sample):
        self.part.keep((*sample[:3], "", sample.cpu_s, sample.peak_mib))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=lambda text: Path(text).resolve())
    parser.add_argument("--out", type=Path, help="folder for the samples and the table")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--programs", type=known(whole.NAMES), default=["python3", "sqlite3"])
    parser.add_argument("--only", type=known(BUILDS), default=BUILDS, help="of the libraries")
    options = parser.parse_args()
    libraries = {name: str(library(options.build, name)) for name in options.only}
    with tempfile.TemporaryDirectory() as folder:
        programs = whole.Programs(Path(folder))
        chosen = programs.choose(options.programs)
        with Part(options.out and options.out / "secure-samples.csv", COLUMNS) as part:
            patterns(options.build, libraries, options.rounds, part)
            whole.measure(programs, chosen, libraries, options.rounds, Programs(part))
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        tables.secure([dict(zip(COLUMNS, sample)) for sample in part.samples])
    print(text.getvalue(), end="")
    if options.out and part.samples:
        (options.out / "secure.txt").write_text(text.getvalue())
    part.end()


if __name__ == "__main__":
    main()
