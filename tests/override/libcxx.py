"""libcxx.py: C++'s promises for operator new and delete (operators.cpp), with LLVM's C++ runtime."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "programs"))
from support import SKIPPED, preloaded

COMPILE = ["clang++", "-stdlib=libc++", "-std=c++17", "-O2", "-fno-builtin"]


def compiled(source, program, *more):
    return subprocess.run([*COMPILE, *more, "-o", program, source], capture_output=True, text=True)


with tempfile.TemporaryDirectory() as folder:
    program = Path(folder) / "operators"
    empty = Path(folder) / "empty.cpp"
    empty.write_text("#include <new>\nint main() { delete new int; }\n")
    if shutil.which("clang++") is None or compiled(empty, program).returncode != 0:
        print("clang++ with libc++ is not installed: skipped")
        sys.exit(SKIPPED)
    built = compiled(HERE / "operators.cpp", program, f"-I{HERE.parents[1] / 'c' / 'include'}")
    if built.returncode != 0:
        sys.exit(built.stderr)
    loaded = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    if "libc++.so" not in loaded or "libstdc++" in loaded:
        sys.exit(f"not LLVM's runtime:\n{loaded}")
    done = subprocess.run([program], env=preloaded(), capture_output=True, text=True)
    if done.returncode != 0 or done.stdout + done.stderr != "operators: ok\n":
        sys.exit(f"status {done.returncode}: {done.stdout}{done.stderr}")
