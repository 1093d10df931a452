"""builds.py: compiles the core, malloc by its own name, and a program in the ways that distributions
and users link programs, and runs each. A compiler or linker that is not installed is left out."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = [ROOT / "c/src/unity.c", ROOT / "c/src/api/override.c"]
PROGRAM = Path(__file__).resolve().parent / "builds.c"
FLAGS = ["-std=gnu11", "-O2", "-fno-builtin", "-fvisibility=hidden", "-DVALLOC_OVERRIDE=1",
         f"-I{ROOT / 'c/src'}", f"-I{ROOT / 'c/include'}", "-pthread"]
DYNAMIC = "-DVALLOC_TLS_DYNAMIC=1"  # in a program the linker makes it static

WAYS = [
    # name, compiler, options
    ("PIE, bound at once", "gcc", ["-fPIE", "-pie", "-Wl,-z,now,-z,relro"]),
    ("static", "gcc", ["-static"]),
    ("static PIE", "gcc", ["-fPIE", "-static-pie", "-Wl,-z,now"]),
    ("static PIE, dynamic TLS", "gcc", ["-fPIE", "-static-pie", DYNAMIC]),
    ("LTO", "gcc", ["-flto"]),
    ("LTO, dynamic TLS", "gcc", ["-flto", "-fPIE", "-pie", DYNAMIC]),
    ("PIE, bound at once", "clang", ["-fPIE", "-pie", "-Wl,-z,now,-z,relro"]),
    ("LTO", "clang", ["-flto"]),
    ("thin LTO", "clang", ["-flto=thin"]),
    ("LTO, dynamic TLS", "clang", ["-flto", "-fPIE", "-pie", DYNAMIC]),
    ("PIE, bound at once", "musl-gcc", ["-fPIE", "-pie", "-Wl,-z,now"]),
    ("static", "musl-gcc", ["-static"]),
    ("static PIE", "musl-gcc", ["-fPIE", "-static-pie"]),
    ("static PIE, dynamic TLS", "musl-gcc", ["-fPIE", "-static-pie", DYNAMIC]),
    ("LTO, static", "musl-gcc", ["-flto", "-static"]),
]


def can_link(compiler, options, work):
    """Whether a program without valloc can be linked so. What valloc needs is no reason to leave
    a way out."""
    (work / "empty.c").write_text("int main(void) { return 0; }\n")
    return subprocess.run([compiler, *options, work / "empty.c", "-o", work / "empty"],
                          capture_output=True).returncode == 0


built = 0
with tempfile.TemporaryDirectory() as directory:
    work = Path(directory)
    for name, compiler, options in WAYS:
        if not shutil.which(compiler) or not can_link(compiler, options, work):
            print(f"{compiler}, {name}: cannot be linked here")
            continue
        objects = []
        quiet = ["-Wno-unused-command-line-argument"] if compiler == "clang" else []
        for source in [*CORE, PROGRAM]:
            objects.append(work / f"{source.stem}.o")
            subprocess.run([compiler, *FLAGS, *quiet, *options, "-c", source, "-o", objects[-1]],
                           check=True)
        done = subprocess.run([compiler, *FLAGS, *options, *objects, "-o", work / "program", "-ldl"],
                              capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{compiler}, {name}: {done.stderr}")
        code = subprocess.run([work / "program"]).returncode
        if code != 0:
            sys.exit(f"{compiler}, {name}: the program ended with {code}")
        print(f"{compiler}, {name}: works")
        built += 1
sys.exit(0 if built else 77)
