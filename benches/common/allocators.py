"""Common parts of the comparisons by LD_PRELOAD: paths of the allocators (valloc's build and the
distribution's packages), turns, spread, files of samples.

glibc is preloaded like the others. So programs that are linked to another allocator use it, too, and
every allocator pays for preloading."""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

PEERS = {
    "mimalloc": "libmimalloc.so.2",
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
}


GLIBC = "libc.so.6"


def find(build, names=None, extra=()):
    """Name -> library to preload. names: only these of ours and the peers.
    extra: NAME=LIBRARY[,VARIABLE=VALUE]..., for other versions and settings."""
    folders = [Path("/usr/lib") / f"{os.uname().machine}-linux-gnu", Path("/usr/lib")]
    found = {"valloc": str(Path(build).resolve() / "libvalloc-override.so"), "glibc": GLIBC}
    for name, library in PEERS.items():
        for folder in folders:
            if (folder / library).exists():
                found[name] = str(folder / library)
                break
        else:
            print(f"{name}: {library} is not installed; .ci/setup.sh bench installs it",
                  file=sys.stderr)
    if names:
        missing = [name for name in names if name not in found]
        if missing:
            sys.exit(f"no allocator named {missing[0]}; there are {', '.join(found)}")
        found = {name: found[name] for name in names}
    if "valloc" in found and not Path(found["valloc"]).exists():
        sys.exit(f"{found['valloc']} is not built; make builds it")
    for item in extra:
        name, _, library = item.partition("=")
        library, *settings = library.split(",")
        if not Path(library).is_file() or not all("=" in setting for setting in settings):
            sys.exit(f"--extra {item}: there is no such library; "
                     "NAME=LIBRARY[,VARIABLE=VALUE]... is wanted")
        found[name] = ",".join([str(Path(library).resolve()), *settings])
    return found


def positive(text):
    """For argparse: a number of rounds or of work."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 on")
    return int(text)


def known(names):
    """For argparse: some of these names, by commas."""
    def parse(text):
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in names]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"there is no '{unknown[0]}'; there are {', '.join(names)}")
        return chosen
    return parse


def containing(names):
    """For argparse: a word that some of these names contain; which they are, in their order."""
    def parse(text):
        chosen = [name for name in names if text in name]
        if not chosen:
            raise argparse.ArgumentTypeError(
                f"none contains '{text}'; there are {', '.join(names)}")
        return chosen
    return parse


def environment(library):
    """That of a program on one that find found, with its settings."""
    library, *settings = library.split(",") if library else [None]
    preload = {"LD_PRELOAD": library} if library else {}
    return {**os.environ, **preload, **dict(setting.split("=", 1) for setting in settings)}


def in_turn(items, turn):
    """The items, beginning with another one in every turn: nobody is always the first."""
    items = list(items)
    return items[turn % len(items):] + items[:turn % len(items)]


def quartiles(values):
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def spread(values):
    """Half the distance of the quartiles, in percent of the median."""
    lower, middle, upper = quartiles(values)
    return (upper - lower) / 2 / middle * 100 if middle else 0.0


def moment():
    """When something was measured, of which commit, on how busy a machine; as page.rs says it."""
    def git(*arguments):
        done = subprocess.run(["git", "-C", Path(__file__).parent, *arguments],
                              capture_output=True, text=True)
        return done.stdout.strip()

    commit = git("describe", "--always", "--tags", "--abbrev=12") or "unknown"
    changes = ", with changes" if git("status", "--porcelain") else ""
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"Commit {commit}{changes}, begun {now}, load average {os.getloadavg()[0]:.2f} before.\n"


class Part:
    """A comparison that is being measured: every sample and every failure is in its file as soon as
    it is there, so that an interruption or a failure takes away nothing that was measured. Beside
    NAME-samples.csv (None: no files) are NAME-run.txt and, if there are any, NAME-failures.txt. What
    an earlier run left stays until this one has its first sample."""

    def __init__(self, out, columns):
        self.samples = []
        self.failures = []
        self.interrupted = False
        self.out = Path(out) if out else None
        if self.out:
            self.out.parent.mkdir(parents=True, exist_ok=True)
        self.columns = columns
        self.moment = moment() if out else ""
        self.file = None

    def beside(self, ending):
        """The path of NAME-ENDING."""
        stem = self.out.name.removesuffix(".csv").removesuffix("-samples")
        return self.out.with_name(f"{stem}-{ending}")

    def keep(self, sample):
        self.samples.append(sample)
        if self.file:
            self.table.writerow(sample)
        elif self.out:
            new = self.out.with_name(self.out.name + ".new")
            self.file = open(new, "w", newline="", buffering=1)
            self.table = csv.writer(self.file)
            self.table.writerows([self.columns, sample])
            new.rename(self.out)
            self.beside("run.txt").write_text(self.moment)
            if not self.failures:
                self.beside("failures.txt").unlink(missing_ok=True)

    def fail(self, what):
        self.failures.append(what)
        print(f"\n{what}", file=sys.stderr)
        if self.out:
            self.beside("failures.txt").write_text("\n".join(self.failures) + "\n")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        """Ctrl-C ends the measuring; what there is is reported on."""
        self.interrupted = kind is KeyboardInterrupt
        if self.file:
            self.file.close()
        return self.interrupted

    def end(self):
        """Ends the program: with a status other than 0 if anything failed or was interrupted."""
        if self.interrupted:
            sys.exit("interrupted: what was measured is kept")
        if self.failures:
            sys.exit("\n".join([f"{len(self.failures)} failed:", *self.failures]))


def write_csv(path, columns, rows):
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)
