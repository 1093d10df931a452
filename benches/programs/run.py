#!/usr/bin/env python3
"""Runs whole programs of the distribution on each allocator, by LD_PRELOAD, in turns.

run.py BUILD [--out FILE] [--rounds N] [--only A,B] [--allocators A,B]
       [--extra NAME=LIBRARY[,VARIABLE=VALUE]...]...

Prints medians of processor seconds (user + system, with the program's own children) and peak resident
MiB. The spread is the largest half distance between quartiles of a row's times. Then come geometric
means of valloc's figures divided by each other allocator's. All allocators must have the same result,
if the program has the same result in every run. Programs that are not installed are left out, with a
message. A program that fails on one allocator does not run on it again. All others run, and the command
ends with a status other than 0. --out saves every run at once as a line of CSV: program, allocator,
round, cpu_s, wall_s, peak_mib."""

import argparse
import hashlib
import math
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from allocators import Part, environment, find, in_turn, known, positive, quartiles, spread  # noqa: E402

NAMES = ["python3", "perl", "sqlite3", "gawk", "lua", "ruby", "clang++", "g++", "z3", "gs", "rocksdb",
         "git", "redis"]
Sample = namedtuple("Sample", "program allocator round cpu_s wall_s peak_mib")

PYTHON = """
import json, random
random.seed(1)
class Node:
    def __init__(self, key): self.key, self.left, self.right = key, None, None
def insert(root, key):
    while True:
        side = "left" if key < root.key else "right"
        child = getattr(root, side)
        if child is None: setattr(root, side, Node(key)); return
        root = child
root = Node(0.5)
for _ in range(60000): insert(root, random.random())
data = [{"id": i, "name": str(i) * (i % 20), "tags": [str(t) for t in range(i % 12)]} for i in range(60000)]
for _ in range(3): data = json.loads(json.dumps(data))
words = {}
for row in data:
    for tag in row["tags"]: words.setdefault(tag + row["name"][:4], []).append(row["id"])
print(sum(len(v) for v in words.values()))
"""

PERL = r"""
my (%h, @a); srand(1);
for my $i (1 .. 400000) { push @{$h{int(rand(20000))}}, "v" x ($i % 90); }
for my $k (sort keys %h) { push @a, join(",", sort @{$h{$k}}); delete $h{$k} if $k % 3; }
my $n = 0; $n += length for @a; print "$n\n";
"""

SQL = """
create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 600000)
insert into t select i, printf('name-%d-%d', i * 7919 % 100003, i), i / 7.0 from n;
create index by_name on t(name);
select count(*), sum(length(group_c)) from (select substr(name, 1, 8) k, group_concat(id) group_c from t group by k);
delete from t where id % 3 = 0; vacuum;
select count(*) from t a join t b on a.id = b.id + 1 where a.name < b.name;
"""

AWK = """BEGIN { srand(1); for (i = 0; i < 900000; i++) { k = int(rand() * 60000); a[k] = a[k] i % 10; if (length(a[k]) > 60) delete a[k] }
n = 0; for (k in a) n += length(a[k]); print n }"""

LUA = """
math.randomseed(1)
local kept, n = {}, 0
for i = 1, 1500000 do
  local k = math.random(50000)
  local old = kept[k]
  kept[k] = {id = i, name = "item-" .. i % 9973, next = old and old.next, tags = {i, i + 1, k}}
  if i % 3 == 0 then kept[math.random(50000)] = nil end
end
local parts = {}
for k, v in pairs(kept) do n = n + #v.name; parts[#parts + 1] = v.name end
table.sort(parts)
print(n, #table.concat(parts, ","))
"""

RUBY = """
srand(1)
Record = Struct.new(:id, :name, :tags)
rows = Array.new(150_000) { |i| Record.new(i, "name-#{i % 1009}" * (i % 7 + 1), [i.to_s, (i * 3).to_s]) }
groups = rows.group_by { |row| row.name[0, 9] }
words = Hash.new(0)
5.times do
  rows.each { |row| row.tags.each { |tag| words[tag + row.name[5, 3]] += 1 } }
  rows.map! { |row| rand(3).zero? ? Record.new(row.id, row.name.reverse, row.tags.map(&:succ)) : row }
end
puts groups.size, words.size, rows.sum { |row| row.name.size }
"""

CPP = """
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>
template <int N> struct Work {
    std::map<std::string, std::vector<std::variant<int, double, std::string>>> table;
    std::unordered_map<int, std::function<std::string(int)>> calls;
    std::string run(const std::string &text) {
        static const std::regex word("[a-z]+" + std::to_string(N));
        for (std::sregex_iterator i(text.begin(), text.end(), word), e; i != e; ++i)
            table[i->str()].push_back(std::string(N, 'x'));
        calls[N] = [this](int n) { return std::to_string(n + N + table.size()); };
        std::set<std::string> all;
        for (auto &row : table) for (auto &v : row.second)
            all.insert(std::visit([](auto &x) { std::string s; if constexpr (std::is_same_v<std::decay_t<decltype(x)>, std::string>) s = x; else s = std::to_string(x); return s; }, v));
        return calls[N](N) + (all.empty() ? "" : *all.begin());
    }
};
template <int... N> std::string all(std::integer_sequence<int, N...>, const std::string &t) { return (Work<N>().run(t) + ...); }
int main(int, char **v) { std::cout << all(std::make_integer_sequence<int, 24>(), v[0]); }
"""

def smt(count=80):
    """Arrays, functions and sums over `count` integers; satisfiable."""
    lines = ["(set-logic QF_AUFLIA)", "(declare-fun f (Int) Int)", "(declare-const a (Array Int Int))"]
    lines += [f"(declare-const x{i} Int)" for i in range(count)]
    for i in range(count):
        one, two, three, seven = (f"x{(i + step) % count}" for step in (1, 2, 3, 7))
        far = f"x{(i * 5 + 1) % count}"
        lines += [
            f"(assert (= (f (+ x{i} {i})) (+ (select a {one}) {i % 5})))",
            f"(assert (or (< x{i} (+ {three} {i % 9})) (= (select (store a x{i} {i}) {seven}) (f {two}))))",
            f"(assert (distinct x{i} {far}))"]
    return "\n".join([*lines, "(check-sat)", ""])


POSTSCRIPT = """%!PS
/Helvetica findfont 9 scalefont setfont
/n 0 def
1 1 40 { /page exch def
  0 1 400 { /i exch def
    i 7 mul 560 mod 20 add i 13 mul page add 740 mod 20 add moveto
    i 3 mod 0 eq { (text of line ) show i page mul 20 string cvs show } if
    i 100 div 1 i 200 div sub abs 0.3 setrgbcolor
    i 5 mod 0 eq { i 11 mul 500 mod 50 add i 17 mul 700 mod 40 add 12 0 360 arc fill } if
    /d 10 dict def d /k i array put
  } for showpage } for
"""


def history(commits=400):
    """A project's history for git fast-import, in pieces: files that change a line at a time."""
    random = Random(1)
    files = [[f"line {line} of file {name}" for line in range(300)] for name in range(40)]
    for commit in range(1, commits + 1):
        yield ("commit refs/heads/main\n"
               f"committer A <a@example.org> {1700000000 + commit} +0000\n"
               "data 6\nchange\n")
        for name in range(40) if commit == 1 else random.sample(range(40), 5):
            for _ in range(8):
                files[name][random.randrange(300)] = f"changed in {commit}: {random.random()}"
            text = "\n".join(files[name])
            yield f"M 644 inline src/{name}.txt\ndata {len(text)}\n{text}\n"


class Programs:
    """name -> command; input files in a folder of their own."""

    def __init__(self, folder):
        def file(name, text):
            (folder / name).write_text(text)
            return str(folder / name)

        source = file("large.cpp", CPP)
        (folder / "out").mkdir()
        out = str(folder / "out" / "file")
        self.commands = {
            "python3": ["/usr/bin/python3", "-c", PYTHON],
            "perl": ["perl", "-e", PERL],
            "sqlite3": ["sqlite3", ":memory:", f".read {file('script.sql', SQL)}"],
            "gawk": ["gawk", AWK],
            "lua": ["lua5.4", "-e", LUA],
            "ruby": ["ruby", "--disable-gems", "-e", RUBY],
            "clang++": ["clang++", "-std=c++17", "-O1", "-c", source, "-o", out],
            "g++": ["g++", "-std=c++17", "-O1", "-c", source, "-o", out],
            "z3": ["z3", "-T:60", file("problem.smt2", smt())],
            "gs": ["gs", "-q", "-dNOPAUSE", "-dBATCH", "-sDEVICE=png16m", "-r100",
                   f"-sOutputFile={out}%d", file("page.ps", POSTSCRIPT)],
            "rocksdb": ["db_bench", "--benchmarks=fillrandom,overwrite,readrandom,seekrandom",
                        "--num=150000", "--value_size=200", "--threads=2", "--seed=1",
                        "--write_buffer_size=8388608", "--compression_type=none",
                        f"--db={folder / 'rocksdb'}"],
            "git": ["git", "-C", out, "-c", "gc.autoDetach=false",
                    "gc", "--quiet", "--aggressive", "--prune=now"],
            "redis": ["redis-server"],
        }
        assert list(self.commands) == NAMES
        self.folder = folder
        if shutil.which("git"):
            where = ["git", "-C", str(folder / "repository")]
            subprocess.run(["git", "init", "--quiet", "-b", "main", where[2]], check=True)
            with subprocess.Popen([*where, "fast-import", "--quiet"], stdin=subprocess.PIPE,
                                  text=True) as importer:
                importer.stdin.writelines(history())

    def choose(self, only):
        """Those of the programs named that are installed."""
        missing = [name for name in only if not shutil.which(self.commands[name][0])]
        for name in missing:
            print(f"{name} is left out: {self.commands[name][0]} is not installed; "
                  ".ci/setup.sh programs installs it", file=sys.stderr)
        if len(missing) == len(only):
            sys.exit("none of the programs is installed")
        return [name for name in only if name not in missing]

    def run(self, name, library):
        """Processor seconds, seconds, peak resident MiB; what came out, as a text to compare."""
        out = self.folder / "out"
        shutil.rmtree(out)
        out.mkdir()
        if name == "redis":
            return self.redis(library)
        if name == "git":
            shutil.copytree(self.folder / "repository", out / "file")
        printed = self.folder / "printed"
        with open(printed, "wb") as stdout:
            begin = time.monotonic()
            process = subprocess.Popen(
                self.commands[name], env={**environment(library), "PYTHONMALLOC": "malloc"},
                stdout=stdout, stderr=subprocess.PIPE)
            error = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise RuntimeError(f"status {status:#x}, {error.decode(errors='replace')[-1000:]}")
        measured = figures(usage, begin)
        return measured, self.result(name, printed.read_text(errors="replace"))

    def result(self, name, printed):
        out = self.folder / "out"
        if name == "git":
            # Threads decide how the packs are cut; what is in them is the same.
            git = ["git", "-C", str(out / "file")]
            return subprocess.run([*git, "rev-list", "--all", "--objects", "--count"], check=True,
                                  capture_output=True, text=True).stdout
        if name == "rocksdb":
            return " ".join(re.findall(r"\d+ of \d+ found", printed))
        parts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())]
        return "\n".join([printed, *parts])

    def redis(self, library):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        begin = time.monotonic()
        server = subprocess.Popen(
            ["redis-server", "--port", port, "--save", "", "--dir", str(self.folder)],
            env=environment(library), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            pushed = self.load_redis(["redis-cli", "-p", port], port, begin)
        except BaseException:
            server.kill()
            server.wait()
            raise
        _, status, usage = os.wait4(server.pid, 0)
        if status != 0:
            raise RuntimeError(f"the server ended with status {status:#x}")
        return figures(usage, begin), pushed

    def load_redis(self, client, port, begin):
        while subprocess.run([*client, "ping"], capture_output=True).stdout != b"PONG\n":
            if time.monotonic() > begin + 30:
                raise RuntimeError("the server does not answer")
            time.sleep(0.05)
        for load in (["-t", "set,lpush,sadd,hset,zadd", "-d", "200"], ["-t", "set,get", "-d", "3000"]):
            subprocess.run(["redis-benchmark", "-p", port, "-q", "-n", "150000", "-r", "100000",
                            "-P", "16", *load], check=True, stdout=subprocess.DEVNULL)
        # Keys are drawn anew in every run; how much was pushed is the same.
        pushed = subprocess.run([*client, "llen", "mylist"], check=True, capture_output=True,
                                text=True).stdout
        subprocess.run([*client, "shutdown", "nosave"], stdout=subprocess.DEVNULL)
        return pushed


def figures(usage, begin):
    # A child begins with the peak of the process that started it: ours must not be what is seen.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if usage.ru_maxrss <= own:
        raise RuntimeError(f"a peak below {own} KiB cannot be measured from here")
    return (usage.ru_utime + usage.ru_stime, time.monotonic() - begin, usage.ru_maxrss / 1024)


def measure(programs, chosen, libraries, rounds, part):
    """Runs the programs on all libraries, in turns."""
    results = {}
    failed = set()
    for turn in range(rounds):
        for place, program in enumerate(chosen):
            for name, library in in_turn(libraries.items(), turn + place):
                if (program, name) in failed:
                    continue
                print(f"[{turn + 1}/{rounds}] {program}, {name}", file=sys.stderr)
                try:
                    taken, result = programs.run(program, library)
                    if results.setdefault(program, result) != result:
                        raise RuntimeError(f"its result is not that of the first allocator, but\n"
                                           f"{result[:500]}\ninstead of\n{results[program][:500]}")
                    part.keep(Sample(program, name, turn, *taken))
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                    failed.add((program, name))
                    part.fail(f"{program} on {name}: {error}")


def report(samples, libraries):
    """Medians of every program, then valloc's shares of the others."""
    programs = list(dict.fromkeys(sample.program for sample in samples))
    median = {}
    print(f"{'seconds / peak MiB':18}", *(f"{name:>16}" for name in libraries), f"{'spread':>8}")
    for program in programs:
        widest = 0
        for name in libraries:
            runs = [s for s in samples if (s.program, s.allocator) == (program, name)]
            if runs:
                median[program, name] = [quartiles([getattr(run, column) for run in runs])[1]
                                         for column in ("cpu_s", "peak_mib")]
                widest = max(widest, spread([run.cpu_s for run in runs]))
        cells = [median.get((program, name)) for name in libraries]
        print(f"{program:18}", *(f"{cell[0]:>8.2f} / {cell[1]:>5.0f}" if cell else f"{'-':>16}"
                                 for cell in cells), f"{widest:>6.1f} %")
    for other in libraries:
        both = [p for p in programs if (p, "valloc") in median and (p, other) in median]
        if other == "valloc" or not both:
            continue
        time_share, memory_share = (
            math.exp(sum(math.log(median[p, "valloc"][i] / median[p, other][i])
                         for p in both) / len(both)) for i in (0, 1))
        print(f"valloc to {other}: time {time_share:.3f}, peak resident memory {memory_share:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="folder with libvalloc-override.so")
    parser.add_argument("--out", help="file for the samples")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--only", default=NAMES, type=known(NAMES), help="programs, by commas")
    parser.add_argument("--allocators", type=lambda text: text.split(","))
    parser.add_argument("--extra", action="append", default=[],
                        help="NAME=LIBRARY[,VARIABLE=VALUE]...")
    options = parser.parse_args()
    libraries = find(options.build, options.allocators, options.extra)
    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(Path(folder))
        chosen = programs.choose(options.only)
        with Part(options.out, Sample._fields) as part:
            measure(programs, chosen, libraries, options.rounds, part)
    report(part.samples, libraries)
    part.end()


if __name__ == "__main__":
    main()
