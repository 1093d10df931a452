"""memcheck.py PROGRAM: memcheck finds no error in a correct program. It tells the forms of new and
delete apart by their addresses."""

import shutil
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "programs"))
from support import SKIPPED, preloaded

if shutil.which("valgrind") is None:
    print("valgrind is not installed: skipped")
    sys.exit(SKIPPED)
done = subprocess.run(["valgrind", "-q", "--error-exitcode=9", sys.argv[1], "forms"],
                      env=preloaded(), capture_output=True, text=True)
if done.returncode != 0 or "== " in done.stderr:
    sys.exit(f"ended with {done.returncode}\n{done.stderr}")
print("no error")
