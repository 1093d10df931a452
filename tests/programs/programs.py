"""programs.py NAME: a real program from the distribution on valloc, checked by its own means or
against its output on the system's malloc."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support import SKIPPED, preloaded, run

ROOT = Path(__file__).resolve().parents[2]


def need(program):
    if shutil.which(program) is None:
        print(f"{program} is not installed: skipped")
        sys.exit(SKIPPED)


def same(command, **options):
    """The command prints the same on valloc as without it."""
    expected = run(command, valloc=False, **options)
    if run(command, **options) != expected:
        sys.exit(f"{' '.join(command)}: other output than on the system's malloc")
    return expected


def python(_):
    suites = ["test_list", "test_dict", "test_set", "test_bytes", "test_json", "test_re",
              "test_threading", "test_queue", "test_zlib", "test_array", "test_deque", "test_gc"]
    interpreter = "/usr/bin/python3"
    found = [s for s in suites if subprocess.run(
        [interpreter, "-c", f"import test.{s}"], capture_output=True).returncode == 0]
    if found:
        out = run([interpreter, "-m", "test", *found], more={"PYTHONMALLOC": "malloc"})
        print("\n".join(out.splitlines()[-4:]))
    else:
        print("python's own test suite is not installed (libpython3-testsuite)")
    # Objects of every kind, by malloc, from threads.
    program = """
import json, threading, re, zlib, hashlib
def work(n, out):
    data = [{"id": i, "name": str(i) * (i % 50), "list": list(range(i % 90))} for i in range(4000)]
    text = json.dumps(data)
    assert json.loads(text) == data
    assert zlib.decompress(zlib.compress(text.encode())).decode() == text
    words = re.findall(r"[0-9]+", text)
    out[n] = hashlib.sha256(" ".join(sorted(words)).encode()).hexdigest()
out = {}
threads = [threading.Thread(target=work, args=(n, out)) for n in range(4)]
for t in threads: t.start()
for t in threads: t.join()
assert len(set(out.values())) == 1
print(out[0])
"""
    print(same([interpreter, "-c", program]), end="")


def perl(_):
    need("perl")
    program = r"""
my %h; my @all;
for my $i (1 .. 200000) { push @{$h{$i % 1000}}, "x" x ($i % 200); }
my $sum = 0;
for my $k (sort { $a <=> $b } keys %h) { $sum += length($_) for @{$h{$k}}; delete $h{$k} if $k % 2; }
my $text = join ",", map { $_ * 3 } 1 .. 100000;
my @parts = sort { $b cmp $a } split /,/, $text;
print "$sum ", scalar(@parts), " $parts[17] ", scalar(keys %h), "\n";
"""
    print(same(["perl", "-e", program]), end="")


def git(work):
    need("git")
    more = {"GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z",
            "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(work)}
    repository = work / "repository"
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]

    def at(*arguments):
        return run(["git", "-C", str(repository), *identity, *arguments], more=more)

    repository.mkdir()
    at("init", "-q", "-b", "main")
    for turn in range(12):
        for number in range(60):
            lines = [f"{number} {line * turn if line % 7 == turn % 7 else line}\n" for line in range(200)]
            (repository / f"file{number}").write_text("".join(lines))
        at("add", "-A")
        at("commit", "-q", "--allow-empty", "-m", f"turn {turn}")
    run(["git", "clone", "-q", "--no-local", str(repository), str(work / "clone")], more=more)
    at("gc", "-q", "--aggressive")
    at("fsck", "--full", "--strict")
    head = at("rev-parse", "HEAD")
    clone = run(["git", "-C", str(work / "clone"), "rev-parse", "HEAD"], more=more)
    if head != clone or len(at("log", "--format=%H").split()) != 12:
        sys.exit("the clone differs")
    print("12 commits made, cloned, packed and checked")


def sqlite(work):
    need("sqlite3")
    script = work / "script.sql"
    script.write_text("""
create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000)
insert into t select i, printf('name-%d', i * 7919 % 100003), i / 7.0 from n;
create index by_name on t(name);
select count(*), sum(value) from t where name like 'name-1%';
select name, count(*) c, group_concat(id) from t group by name order by c desc, name limit 5;
delete from t where id % 3 = 0;
vacuum;
pragma integrity_check;
select group_concat(name) from (select name from t order by value desc limit 100);
""")
    out = same(["sqlite3", ":memory:", f".read {script}"])
    if "\nok\n" not in out:
        sys.exit(out)
    print("200000 rows inserted, indexed, deleted; integrity ok")


def shell(_):
    need("bash")
    script = """
declare -A map
for i in $(seq 1 3000); do map[$i]="value $i $(( i * i ))"; done
total=0; for k in "${!map[@]}"; do v=${map[$k]}; total=$(( total + ${#v} )); done
for i in $(seq 1 200); do /bin/true || exit 1; done
x=$(seq 1 20000 | sort -R | sort -n | awk '{ s += $1 } END { print s }')
echo $total $x
"""
    print(same(["bash", "-c", script]), end="")


def compile(work):
    """valloc compiled by compilers that run on valloc, twice, with equal results."""
    need("ninja")
    libraries = []
    for number in 1, 2:
        build = work / f"build{number}"
        run(["cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja",
             "-DCMAKE_BUILD_TYPE=Release", "-DVALLOC_BUILD_TESTS=OFF"])
        run(["ninja", "-C", str(build)], valloc=number == 1)
        libraries.append((build / "libvalloc-override.so").read_bytes())
    if libraries[0] != libraries[1]:
        sys.exit("the library compiled on valloc differs from the one compiled without")
    print("valloc compiled on valloc: the same bytes")


def stress_ng(work):
    need("stress-ng")
    run(["stress-ng", "--malloc", "4", "--malloc-bytes", "64m", "--malloc-ops", "20000", "--verify",
         "--temp-path", str(work), "--timeout", "60"])
    run(["stress-ng", "--malloc", "2", "--malloc-pthreads", "4", "--malloc-bytes", "32m", "--verify",
         "--malloc-ops", "20000", "--temp-path", str(work), "--timeout", "60"])
    print("stress-ng verified")


with tempfile.TemporaryDirectory() as directory:
    globals()[sys.argv[1].replace("-", "_")](Path(directory))
