"""options.py WRONG_SIZES CONFIGURED... [profiler]: options from the environment: sized frees with wrong
sizes, statistics to a file descriptor, a heap profile if the build has a profiler, and that a program with
more rights than its caller reads none of them. Options that are compiled into a program."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = sys.argv[1]
OVERRIDE = os.environ.pop("VALLOC_OVERRIDE", None)
WRONG = "the size or alignment is not the allocation's (pointer 0x"


def must(condition, text):
    if not condition:
        sys.exit(f"unexpected: {text}")


def run(program=PROGRAM, **options):
    """The status, what it printed, and what it wrote to a descriptor besides."""
    receiver, sender = os.pipe()
    options = {name: value.format(sender) for name, value in options.items()}
    done = subprocess.run([program], env={**os.environ, **options}, pass_fds=[sender],
                          capture_output=True, text=True)
    os.close(sender)
    with os.fdopen(receiver) as file:
        return done.returncode, done.stdout, done.stderr, file.read()


def check_sizes():
    for options in {}, {"VALLOC_TOLERATE_SIZES": "0"}:
        status, _, said, _ = run(**options)
        must(status == -signal.SIGABRT and f"valloc: free_sized: {WRONG}" in said, said)
    status, out, said, _ = run(VALLOC_TOLERATE_SIZES="1")
    must(status == 0 and "left: 0\n" in out, f"{status}, {out}")
    must(said.startswith(f"valloc: free_sized: ignored, as all that follow: {WRONG}"), said)
    must(said.count("\n") == 1, said)
    print("wrong sizes: reported, or tolerated with one warning")


def check_descriptor():
    tolerant = {"VALLOC_TOLERATE_SIZES": "1"}
    status, _, said, told = run(VALLOC_STATS="1", VALLOC_SHOW_LEAKS="1", VALLOC_STATS_FD="{}", **tolerant)
    must(status == 0 and "\ncommitted" in told and " slots in use at exit" in told, told)
    must("committed" not in said, said)
    must(run(VALLOC_STATS="1", **tolerant)[3] == "", "statistics to a descriptor unasked for")
    said = run(VALLOC_STATS_FD="-1", **tolerant)[2]
    must("option ignored: VALLOC_STATS_FD=-1 (understood: a file descriptor)\n" in said, said)
    print("statistics and leaks: to a descriptor")


def check_compiled(program):
    status, out, said, _ = run(program)
    must(status == 0 and "limited: 1\nthen: 0\n" in out, f"{status}, {out}")
    said = said.splitlines()
    must(said[:4] == ["valloc: option ignored: speed=11 (understood: what valloc-options(7) lists)",
                      "valloc: option ignored: background=maybe (understood: 0, 1)",
                      "valloc: option ignored: VALLOC_STATS=1 (understood: what valloc-options(7) lists)",
                      "valloc: option ignored:  (understood: what valloc-options(7) lists)"], said)
    must("valloc" in said, "no statistics")
    _, out, said, _ = run(program, VALLOC_HARD_LIMIT_MIB="0", VALLOC_STATS="0")
    must("limited: 0\nthen: 0\n" in out and said.count("\n") == 4, "the environment does not override")
    with tempfile.TemporaryDirectory() as directory:
        copy = more_rights(directory, program)
        if copy is not None:
            _, out, _, _ = run(copy, VALLOC_HARD_LIMIT_MIB="0")
            must("limited: 1\n" in out, "a program with more rights obeys the environment")
    print("options compiled in: overridden by the environment, then by functions")


def more_rights(directory, program=PROGRAM):
    """A copy of the program that gets another user's or group's rights; None if that cannot be."""
    copy = Path(directory) / "privileged"
    shutil.copy(program, copy)
    os.chmod(directory, 0o755)
    groups = [group for group in os.getgroups() if group != os.getgid()]
    if os.getuid() == 0:
        os.chown(copy, 65534, 65534)
        copy.chmod(0o4755)
    elif groups:
        os.chown(copy, -1, groups[0])
        copy.chmod(0o2755)
    return copy if "privileged: 1\n" in run(copy)[1] else None


def check_rights():
    with tempfile.TemporaryDirectory() as directory:
        copy = more_rights(directory)
        if copy is None:
            print("no program can get more rights here: not tried")
            return
        status, _, said, told = run(copy, VALLOC_TOLERATE_SIZES="1", VALLOC_STATS="1",
                                    VALLOC_STATS_FD="{}", VALLOC_BACKGROUND="maybe")
    must(status == -signal.SIGABRT and said.count("\n") == 1 and told == "", f"{status}, {said}, {told}")
    print("more rights: no options")


def check_profile():
    with tempfile.TemporaryDirectory() as directory:
        options = {"VALLOC_TOLERATE_SIZES": "1", "VALLOC_PROFILE": f"{directory}/a%p-%p.pb",
                   "VALLOC_PROFILE_RATE": "1", "VALLOC_PROFILE_MODE": "all"}
        status, _, said, told = run(VALLOC_SHOW_LEAKS="1", VALLOC_STATS_FD="{}", **options)
        files = list(Path(directory).iterdir())
        must(status == 0 and len(files) == 1, f"{status}, {files}, {said}")
        must(re.fullmatch(r"a(\d+)-\1\.pb", files[0].name), files[0].name)
        must(files[0].stat().st_size > 100, "a short profile")
        must("heap profile, a sample per 1 bytes\n" in told, told)
        copy = more_rights(directory)
        if copy is not None:
            run(copy, **options)
            must(len(list(Path(directory).glob("a*"))) == 1, "a program with more rights wrote a profile")
    print("a heap profile: at exit, to the file that is asked for")


RUNS = """
import os, signal
kept = [bytearray(100000) for _ in range(100)]
if signal.getsignal(signal.SIGUSR2) is None:  # handled by what Python has not set
    os.kill(os.getpid(), signal.SIGUSR2)
kept += [bytearray(100000) for _ in range(400)]
"""


def files_while_running(**options):
    """The files of a profile of 50 MB that grow, without the one at exit, and what was said."""
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run([sys.executable, "-c", RUNS], capture_output=True, text=True,
                              env={**os.environ, "LD_PRELOAD": OVERRIDE, "VALLOC_PROFILE": f"{directory}/%p",
                                   "VALLOC_PROFILE_RATE": "20000", **options})
        must(done.returncode == 0, done.stderr)
        sizes = {file.name: file.stat().st_size for file in Path(directory).iterdir()}
    must(all(size > 100 for size in sizes.values()), sizes)
    at_exit = [name for name in sizes if "." not in name]
    must(len(at_exit) == 1, sizes)
    expected = {f"{at_exit[0]}.{number}" for number in range(1, len(sizes))}
    must(set(sizes) == {at_exit[0]} | expected, sizes)
    return len(expected), done.stderr


IDLES = """
import sys
kept = [bytearray(100000) for _ in range(100)]
print("idle", flush=True)
sys.stdin.read(1)
"""


def check_profile_while_idle():
    """The background thread writes what a signal asks for when the program makes no request."""
    with tempfile.TemporaryDirectory() as directory:
        child = subprocess.Popen([sys.executable, "-c", IDLES], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 env={**os.environ, "LD_PRELOAD": OVERRIDE, "VALLOC_PROFILE": f"{directory}/p",
                                      "VALLOC_PROFILE_SIGNAL": str(int(signal.SIGUSR2)),
                                      "VALLOC_BACKGROUND": "1", "VALLOC_PROFILE_RATE": "20000"})
        must(child.stdout.readline() == b"idle\n", "the program did not start")
        for number in (1, 2):
            child.send_signal(signal.SIGUSR2)
            file = Path(directory) / f"p.{number}"
            deadline = time.monotonic() + 100
            while not (file.exists() and file.stat().st_size > 100) and time.monotonic() < deadline:
                time.sleep(0.01)
            must(file.exists(), f"no profile {number} of an idle process")
        child.communicate(b"x")
        must(child.returncode == 0, child.returncode)
    print("a heap profile of an idle process, by the background thread")


def check_profile_while_running():
    number = int(signal.SIGUSR2)
    must(files_while_running() == (0, ""), "a profile was written unasked for")
    must(files_while_running(VALLOC_PROFILE_SIGNAL=str(number)) == (1, ""), "not one profile at a signal")
    grown, _ = files_while_running(VALLOC_PROFILE_GROWTH="10000000")
    must(4 <= grown <= 6, f"{grown} profiles of 50 MB that grow, at every 10 MB")
    count, said = files_while_running(VALLOC_PROFILE_SIGNAL="9")
    must(count == 0 and said == "valloc: VALLOC_PROFILE_SIGNAL: a signal that has no handlers\n", said)
    print(f"a heap profile while the program runs: at a signal, and {grown} while it grows")


for name in [name for name in os.environ if name.startswith("VALLOC_")]:
    del os.environ[name]
check_sizes()
check_descriptor()
check_rights()
for configured in sys.argv[2:4]:
    check_compiled(configured)
if "profiler" in sys.argv[4:]:
    check_profile()
    check_profile_while_running()
    check_profile_while_idle()
