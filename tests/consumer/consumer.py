"""consumer.py BUILD: installs BUILD to a prefix, moves the prefix, and builds and runs a program
against it in every way that users have: CMake package, CMake subdirectory, pkg-config shared and
static, C++, the override linked."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                          env={**os.environ, **{k: str(v) for k, v in more.items()}})
    if done.returncode != 0:
        sys.exit(f"{command}\n{done.stdout}{done.stderr}")
    return done.stdout


def main(build):
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        run("cmake", "--install", build, "--prefix", work / "first")
        shutil.move(work / "first", work / "prefix")
        prefix = work / "prefix"
        config = next(prefix.glob("**/valloc.pc"))
        libraries = config.parents[1]

        run("cmake", "-S", HERE, "-B", work / "package", f"-DCMAKE_PREFIX_PATH={prefix}")
        run("cmake", "--build", work / "package")
        for program in "shared", "static", "override", "jemalloc", "cxx":
            print("package:", run(work / "package" / program), end="")

        run("cmake", "-S", HERE, "-B", work / "subdirectory", f"-DVALLOC_SOURCE={ROOT}")
        run("cmake", "--build", work / "subdirectory")
        print("subdirectory:", run(work / "subdirectory" / "static"), end="")

        def flags(*arguments):
            return run("pkg-config", *arguments, "valloc", PKG_CONFIG_PATH=config.parent).split()

        run("cc", HERE / "consumer.c", *flags("--cflags", "--libs"), "-o", work / "shared")
        print("pkg-config:", run(work / "shared", LD_LIBRARY_PATH=libraries), end="")
        static = [f for f in flags("--static", "--libs") if f != "-lvalloc"]
        run("cc", HERE / "consumer.c", *flags("--cflags"), libraries / "libvalloc.a", *static,
            "-o", work / "static")
        print("pkg-config, static:", run(work / "static"), end="")

        # Only the public names leave the shared library.
        names = run("nm", "-D", "--defined-only", libraries / "libvalloc.so").splitlines()
        alien = [n for n in names if not n.split()[-1].startswith(("valloc_", "free_valloc"))]
        if alien:
            sys.exit(f"libvalloc.so exports {alien}")
        print(f"{len(names)} names exported, all of valloc.h")


if __name__ == "__main__":
    main(sys.argv[1])
