"""What the program tests share: running commands with and without the override library."""

import os
import subprocess
import sys

OVERRIDE = os.environ.pop("VALLOC_OVERRIDE")  # no option of valloc: a program need not look at it
SKIPPED = 77  # ctest's SKIP_RETURN_CODE


def preloaded(**more):
    return {**os.environ, "LD_PRELOAD": OVERRIDE, **more}


def run(command, valloc=True, limit_kib=None, **options):
    """Runs a command (a list), on valloc unless told otherwise, and returns its output."""
    if limit_kib is not None:
        command = ["sh", "-c", f'ulimit -v {limit_kib}; exec "$@"', "sh", *command]
    environment = preloaded(**options.pop("more", {})) if valloc else dict(os.environ)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=800, **options
    )
    if done.returncode != 0:
        sys.exit(
            f"{' '.join(command)}\nended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout
