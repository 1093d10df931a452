#!/usr/bin/env python3
"""What the features of a secure build cost, each alone and all together, beside mimalloc, mimalloc's
secure build and scudo: nanoseconds per operation of micro.c and processor seconds of whole programs,
in turns; medians, as a table in Markdown.

secure.py BUILD [--rounds N] [--programs A,B] [--only A,B]

Builds the variants beside BUILD. mimalloc's secure build is compiled from the sources that cargo has
for the Rust benchmarks; scudo comes with clang."""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

from allocators import environment, find, in_turn, known, positive

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benches" / "programs"))
import run as whole  # noqa: E402

FEATURES = ["exact", "random", "quarantine", "zero", "canary", "guard"]
BUILDS = ["valloc", *FEATURES, "all", "mimalloc", "mimalloc secure", "scudo"]
PATTERNS = [("pair", "64"), ("pair", "4096"), ("replace", "100000"), ("bulk", "64", "random")]


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{command}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def variant(build, feature):
    """The override library with one feature, or all of them (ON)."""
    folder = build.parent / f"secure-{feature.lower()}"
    run("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
        "-DVALLOC_BUILD_TESTS=OFF", f"-DVALLOC_SECURE={feature}")
    run("cmake", "--build", folder, "--target", "valloc_override")
    return folder / "libvalloc-override.so"


def secure_mimalloc(build):
    """mimalloc 2 with all of its mitigations, as its own build system makes it."""
    packages = json.loads(run("cargo", "metadata", "--format-version", "1", cwd=ROOT))["packages"]
    manifest = next(p["manifest_path"] for p in packages if p["name"] == "libmimalloc-sys")
    source = Path(manifest).parent / "c_src" / "mimalloc" / "v2"
    library = build.parent / "libmimalloc-secure.so"
    run("cc", "-std=gnu11", "-O3", "-DNDEBUG", "-fPIC", "-shared", "-fvisibility=hidden",
        "-fno-builtin-malloc", "-ftls-model=initial-exec", "-DMI_SHARED_LIB", "-DMI_SHARED_LIB_EXPORT",
        "-DMI_MALLOC_OVERRIDE", "-DMI_SECURE=4", "-I", source / "include", source / "src" / "static.c",
        "-o", library, "-lpthread")
    return library


def scudo():
    return run("clang", "-print-file-name=libclang_rt.scudo_standalone-x86_64.so")


def patterns(build, libraries, rounds):
    micro = build / "benches" / "c" / "micro"
    rows = {name: [] for name in libraries}
    for pattern in PATTERNS:
        samples = {name: [] for name in libraries}
        for turn in range(rounds):
            for name, library in in_turn(libraries.items(), turn):
                words = run(micro, *pattern, env=environment(library)).split()
                samples[name].append(sum(map(float, words[:2])))
        for name, values in samples.items():
            rows[name].append(f"{statistics.median(values):.1f}")
    return rows


def programs(build, libraries, names, rounds):
    out = build.parent / "secure-programs.csv"
    extra = [word for name, library in libraries.items() if name != "valloc"
             for word in ("--extra", f"{name}={library}")]
    run(sys.executable, ROOT / "benches" / "programs" / "run.py", build, "--out", out, "--rounds", rounds,
        "--only", ",".join(names), "--allocators", "valloc", *extra)
    with open(out) as file:
        samples = list(csv.DictReader(file))

    def median(name, program, column):
        return statistics.median(float(s[column]) for s in samples
                                 if s["allocator"] == name and s["program"] == program)

    return {name: [f"{median(name, p, 'cpu_s'):.2f} / {median(name, p, 'peak_mib'):.0f}" for p in names]
            for name in libraries}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=lambda text: Path(text).resolve())
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--programs", type=known(whole.NAMES), default=["python3", "sqlite3"])
    parser.add_argument("--only", type=known(BUILDS), help="of the libraries")
    options = parser.parse_args()
    libraries = find(options.build, ["valloc", "mimalloc"])
    libraries |= {feature: variant(options.build, feature) for feature in FEATURES}
    libraries |= {"all": variant(options.build, "ON"), "mimalloc secure": secure_mimalloc(options.build),
                  "scudo": scudo()}
    libraries = {name: str(library) for name, library in libraries.items()
                 if options.only is None or name in options.only}
    micro = patterns(options.build, libraries, options.rounds)
    seconds = programs(options.build, libraries, options.programs, options.rounds)
    header = [" ".join(p) + ", ns" for p in PATTERNS] + [f"{p}, s / MiB" for p in options.programs]
    print("| build |", " | ".join(header), "|")
    print("|---" * (len(header) + 1) + "|")
    for name in libraries:
        print(f"| {name} |", " | ".join(micro[name] + seconds[name]), "|")


main()
