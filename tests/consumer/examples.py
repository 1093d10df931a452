"""examples.py: builds the examples that are packages of their own, and uses them: the web service asks
itself, and Python imports the module, also beside a second one and after threads were started."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "target" / "examples"

USE = """
import sys, threading
sys.path.insert(0, sys.argv[1])
go = threading.Event()
done = []

def work(number):
    go.wait()
    for i in range(50):
        text = " ".join(f"word{number}-{k}" for k in range(i)) + " a b a"
        counts = words.count(text)
        assert counts["a"] == 2 and len(counts) == i + 2, counts
    done.append(number)

threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
import valloc_words as words
go.set()
for thread in threads:
    thread.join()
assert len(done) == 4 and words.known() == 4 * 49 + 2, words.known()
assert words.allocated() > 1000
words.purge()
print("imported, and", words.allocated(), "bytes are in use")
"""


def run(*command, **more):
    if subprocess.run([str(part) for part in command], **more).returncode != 0:
        sys.exit(f"failed: {command}")


def build(folder):
    run("cargo", "build", "--release", "--quiet", "--locked", cwd=ROOT / "docs" / "examples" / folder,
        env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)})


def dynamic_tls_only(library):
    """Nothing in the module may need room in the static block."""
    flags = subprocess.run(["readelf", "--dynamic", library], capture_output=True, text=True).stdout
    if "STATIC_TLS" in flags:
        sys.exit(f"{library} needs static thread-local storage")


build("web")
run(TARGET / "release" / "valloc-example-web")

build("python")
module = TARGET / "release" / "libvalloc_words.so"
if shutil.which("readelf"):
    dynamic_tls_only(module)
with tempfile.TemporaryDirectory() as folder:
    shutil.copy(module, Path(folder) / "valloc_words.so")
    run(sys.executable, "-c", USE, folder)
