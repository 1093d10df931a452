"""wrapper.py BUILD: installs BUILD to a prefix, and runs programs by the command `valloc`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

USAGE_ERROR = 125


def expect(arguments, code=0, out="", err="", **environment):
    """Runs `valloc ARGUMENTS` and demands its exit code, and these parts of its output."""
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True,
                          env={**os.environ, **environment})
    if done.returncode != code or out not in done.stdout or err not in done.stderr:
        sys.exit(f"{arguments}\nended with {done.returncode}, not {code}\n"
                 f"{done.stdout}{done.stderr}\nlooked for {out!r} and {err!r}")


os.environ.pop("VALLOC_OVERRIDE", None)
with tempfile.TemporaryDirectory() as directory:
    prefix = Path(directory) / "prefix"
    subprocess.run(["cmake", "--install", sys.argv[1], "--prefix", prefix], check=True,
                   stdout=subprocess.DEVNULL)
    valloc = prefix / "bin" / "valloc"
    run = [valloc, "run"]
    show = ["sh", "-c", "cat /proc/$$/maps; env"]

    expect([*run, *show], out="/libvalloc-override.so")
    expect([*run, "--secure", *show], out="/libvalloc-override-secure.so")
    expect([*run, "--purge-delay-ms=70", "--huge-pages=never", *show],
           out="VALLOC_PURGE_DELAY_MS=70")
    expect([*run, "--stats=json", "true"], err='"live":')
    expect([*run, "--stats=maybe", "true"], err="option ignored: VALLOC_STATS=maybe")
    expect([*run, *show], out="libvalloc-override.so libm.so.6\n", LD_PRELOAD="libm.so.6")
    expect([*run, "--", "printf", "%s|", "a b", "--secure"], out="a b|--secure|")
    expect([*run, "sh", "-c", "exit 7"], code=7)
    (prefix / "link").symlink_to(valloc)
    expect([prefix / "link", "run", *show], out="/libvalloc-override.so")

    expect([*run, "/nonexistent"], code=127, err="/nonexistent")
    expect([*run, "--purge-delay=70", "true"], code=USAGE_ERROR, err="no option --purge-delay")
    expect([*run, "--insecure", "true"], code=USAGE_ERROR, err="no option --insecure")
    expect([*run, "--secure"], code=USAGE_ERROR, err="no program")
    expect([valloc], code=USAGE_ERROR, err="usage:")
    expect([valloc, "--help"], out="usage:")
    expect([valloc, "--version"], out="valloc ")
    next(prefix.glob("**/libvalloc-override-secure.so")).unlink()
    expect([*run, "--secure", "true"], code=USAGE_ERROR, err="is missing")
    spaced = prefix.rename(Path(directory) / "a prefix")
    expect([spaced / "bin" / "valloc", "run", "true"], code=USAGE_ERROR, err="a space")
print("programs run by valloc(1)")
