"""whole.py BUILD [--only A,B] [--rounds N] [--write FILE] [--packages]: large programs of the
distribution on the override library and on glibc, in turns.

A row of PROGRAMS is a name, the Debian packages, and a shell script. What follows `$on` in it runs
on the allocator, with its children, the rest does not. On both the script has to print the same and end with the same
status. Processor time is that of all its processes. Peak memory is the largest sum of the
proportional set sizes of the processes that run on the allocator, looked at 20 times a second.
--packages prints the packages alone."""

import argparse
import ctypes
import math
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches" / "common"))
from allocators import find, in_turn, positive, quartiles  # noqa: E402

SECONDS = 120  # that a script may take

# Before every script. As root servers that refuse root run as nobody: `$as_user` is that.
PRELUDE = r"""
set -eu
cd "$WORK"
echo 'echo $$ >>"$WORK/roots"; exec env LD_PRELOAD=$LIBRARY "$@"' >on
on="sh $WORK/on"
await() { for _ in $(seq 600); do if "$@" >/dev/null 2>&1; then return 0; fi; sleep 0.05; done; return 1; }
reachable() { python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()' $PORT; }
as_user=
[ "$(id -u)" != 0 ] || as_user="setpriv --reuid=65534 --regid=65534 --clear-groups"
PATH=$PATH:/usr/sbin:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
"""

# A page that builds a large document, and tells a server of it.
PAGE = r"""
cat >page.html <<'END'
<!doctype html><title>page</title><style>p { margin: 0; height: 2px; overflow: hidden }</style><body><div id=root></div><script>
const root = document.getElementById("root"), words = new Map();
for (let i = 0; i < 6000; i++) {
    const row = document.createElement("p");
    row.textContent = "row " + i + " " + "x".repeat(i % 60);
    row.style.color = `hsl(${i % 360} 80% 40%)`;
    root.append(row);
    words.set("key" + i * 7919 % 10007, [i, String(i), {i}]);
}
for (let i = 0; i < 6000; i += 3) root.children[i / 3].remove();
const sum = [...words.keys()].sort().reduce((a, k) => (a * 31 + k.length) % 1000003, 7);
document.title = "done " + root.children.length + " " + sum;
document.body.prepend(document.title);
if (location.hash) new Image().src = "http://127.0.0.1:" + location.hash.slice(1) + "/" + encodeURI(document.title);
</script>
END
listen() {
    python3 - $PORT <<'END'
import http.server, sys, urllib.parse
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(urllib.parse.unquote(self.path), flush=True)
        self.send_response(204); self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.timeout = 90
server.handle_timeout = lambda: sys.exit("no page came")
server.handle_request()
END
}
"""
# A window on a display without a screen: `window COMMAND...` ends when the page has told.
WINDOW = PAGE + r"""
window() {
    Xvfb -displayfd 5 -screen 0 1280x1024x24 -nolisten tcp 5>display 2>/dev/null & local server=$!
    await test -s display
    listen & local listener=$!
    sleep 0.3
    DISPLAY=:$(cat display) $on "$@" >log 2>&1 & local browser=$!
    local status=0 ended=0
    wait $listener || status=$?
    kill $browser $server 2>/dev/null || true
    wait $browser || ended=$?
    wait $server || true
    [ $status = 0 ] || echo "no page; the browser ended with $ended; $(grep -m 1 valloc: log)" >&2
    return $status
}
"""

PROGRAMS = [
    ("node", "nodejs", r"""
$on node -e '
const crypto = require("crypto"), zlib = require("zlib");
const rows = Array.from({length: 150000}, (_, i) => ({id: i, name: "name" + i % 1009, tags: [i, String(i * 3)]}));
const text = JSON.stringify(rows), back = JSON.parse(text);
const packed = zlib.gzipSync(Buffer.from(text));
const sorted = back.sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : a.id - b.id);
console.log(crypto.createHash("sha256").update(JSON.stringify(sorted)).digest("hex"), zlib.gunzipSync(packed).length);'"""),
    ("java", "default-jre-headless", r"""
cat >Work.java <<'END'
import java.util.*; import java.util.stream.*; import java.util.zip.*;
public class Work { public static void main(String[] a) throws Exception {
    Map<String, List<Integer>> m = IntStream.range(0, 600000).parallel().boxed().collect(Collectors.groupingBy(i -> "k" + i % 5003));
    CRC32 c = new CRC32(); new TreeMap<>(m).forEach((k, v) -> { c.update(k.getBytes()); c.update(v.size()); });
    for (int i = 0; i < 60; i++) { Deflater d = new Deflater(); d.setInput(new byte[1 << 20]); d.finish(); c.update(d.deflate(new byte[1 << 16])); d.end(); }
    System.out.println(m.size() + " " + c.getValue()); } }
END
$on java -Xmx512m Work.java"""),
    ("chromium", "chromium", PAGE + r"""
$on chromium --headless --no-sandbox --disable-gpu --user-data-dir="$WORK/user" --dump-dom "file://$WORK/page.html" 2>/dev/null | sha256sum"""),
    ("chromium, window", "chromium xvfb", WINDOW + r"""
window chromium --no-sandbox --no-first-run --user-data-dir="$WORK/user" "file://$WORK/page.html#$PORT" """),
    ("firefox", "firefox-esr", PAGE + r"""
mkdir profile
$on timeout 120 firefox-esr --headless --profile "$WORK/profile" --screenshot "$WORK/shot.png" "file://$WORK/page.html" >log 2>&1
sha256sum <shot.png"""),
    ("firefox, window", "firefox-esr xvfb", WINDOW + r"""
mkdir profile
window firefox-esr --profile "$WORK/profile" --no-remote "file://$WORK/page.html#$PORT" """),
    ("php", "php-cli php-mbstring php-xml php-sqlite3 php-gd php-intl php-zip", (PHP := r"""
cat >work.php <<'END'
<?php
$doc = new DOMDocument; $root = $doc->appendChild($doc->createElement("rows"));
for ($i = 0; $i < 30000; $i++) $root->appendChild($doc->createElement("row", "value " . $i));
$xml = simplexml_load_string($doc->saveXML());
$db = new SQLite3(":memory:"); $db->exec("create table t(i integer, s text)");
$db->exec("with recursive n(i) as (select 1 union all select i+1 from n where i<100000) insert into t select i, 's'||i from n");
$image = imagecreatetruecolor(1500, 1500); for ($i = 0; $i < 500; $i++) imageline($image, $i, 0, 1499, $i * 3, $i * 999);
ob_start(); imagepng($image); $png = ob_get_clean();
$zip = new ZipArchive; $zip->open("x.zip", ZipArchive::CREATE); for ($i = 0; $i < 300; $i++) $zip->addFromString("f$i", str_repeat("text $i", 500)); $zip->close();
$zip->open("x.zip"); $sorted = range(1, 3000); (new Collator("en"))->sort($sorted, Collator::SORT_STRING);
echo count($xml->row), " ", $db->querySingle("select sum(i) from t where s like 's1%'"), " ", md5($png), " ", $zip->numFiles, " ",
    md5(implode(",", $sorted)), " ", md5(mb_convert_encoding(str_repeat("äöü€", 100000), "UTF-16", "UTF-8")), "\n";
END
$on php work.php""")),
    ("php, USE_ZEND_ALLOC=0", "php-cli php-mbstring php-xml php-sqlite3 php-gd php-intl php-zip",
     "export USE_ZEND_ALLOC=0\n" + PHP),
    ("postgres", "postgresql postgresql-contrib", r"""
chmod 777 "$WORK"
$on $as_user initdb -D data -A trust -U me --no-sync >/dev/null
$on $as_user postgres -D data -p $PORT -k "$WORK" -c fsync=off -c shared_buffers=64MB >log 2>&1 & server=$!
at="-h $WORK -p $PORT -U me"
await psql $at -c 'select 1' postgres
pgbench $at -i -q -s 5 postgres >log2 2>&1
pgbench $at -n -c 8 -j 2 -t 400 postgres 2>/dev/null | grep 'actually processed'
psql $at -At postgres -c 'select count(*), (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history) from pgbench_history' \
    -c 'select md5(string_agg(x::text, chr(44))) from (select x, string_agg(md5(x::text), chr(44)) from generate_series(1, 200000) x group by x order by x) s'
kill -INT $server; wait $server"""),
    ("mariadb", "mariadb-server mariadb-client", r"""
chmod 777 "$WORK"
$on $as_user mariadb-install-db --no-defaults --datadir="$WORK/data" --auth-root-authentication-method=normal --skip-test-db >log 2>&1
$on $as_user mariadbd --no-defaults --datadir="$WORK/data" --socket="$WORK/s" --skip-networking --innodb-buffer-pool-size=64M >log2 2>&1 & server=$!
await mariadb --no-defaults -u root -S "$WORK/s" -e 'select 1'
mariadb --no-defaults -u root -S "$WORK/s" -N <<'END'
create database d; use d; create table t(i int primary key, s varchar(200), index(s)) engine=innodb;
insert into t select seq, repeat(md5(seq), 1 + seq % 5) from seq_1_to_100000;
select count(*), md5(group_concat(s order by i)) from (select i, s from t where i % 97 = 0) x;
select s, count(*) from (select substr(s, 1, 1) s from t) x group by s order by s; delete from t where i % 3 = 0;
select count(*), sum(i) from t;
END
mariadb-slap --no-defaults -u root -S "$WORK/s" --concurrency=20 --iterations=2 --auto-generate-sql --number-of-queries=4000 >log3
mariadb-admin --no-defaults -u root -S "$WORK/s" shutdown; wait $server"""),
    ("redis", "redis-server redis-tools", r"""
ulimit -n 20000
$on redis-server --port $PORT --save '' --maxclients 10000 --dir "$WORK" >log & server=$!
await redis-cli -p $PORT ping
cli="redis-cli -p $PORT"
redis-benchmark -p $PORT -q -c 6000 -n 100000 -r 100000 -d 200 -t set,get >/dev/null
$cli eval 'for i = 1, 100000 do redis.call("set", "key" .. i, string.rep("v", i % 300)) end return redis.call("strlen", "key299")' 0
$cli bgsave >/dev/null; sleep 0.2; await sh -c "$cli info persistence | grep -q rdb_bgsave_in_progress:0"
$cli info persistence | grep -o 'rdb_last_bgsave_status:[a-z]*'; test -s dump.rdb
$cli shutdown nosave; wait $server"""),
    ("memcached", "memcached", r"""
user=; [ "$(id -u)" != 0 ] || user="-u nobody"
$on memcached -p $PORT -U 0 -l 127.0.0.1 -m 200 $user & server=$!
await reachable
python3 - $PORT <<'END'
import socket, sys
link = socket.create_connection(("127.0.0.1", int(sys.argv[1]))); file = link.makefile("rwb")
for i in range(100000):
    value = b"x" * (i % 1500); file.write(b"set k%d 0 0 %d noreply\r\n%s\r\n" % (i, len(value), value))
file.flush(); total = 0
for i in range(0, 100000, 7):
    file.write(b"get k%d\r\n" % i); file.flush()
    size = int(file.readline().split()[3]); total += len(file.read(size)); file.readline(); file.readline()
print(total)
END
kill $server; wait $server"""),
    ("nginx", "nginx-light apache2-utils", r"""
chmod 777 "$WORK"; mkdir html; seq 20000 >html/f
cat >conf <<END
daemon off; worker_processes 2; pid $WORK/pid; error_log $WORK/error.log; events { worker_connections 1000; }
http { access_log off; client_body_temp_path $WORK/a; proxy_temp_path $WORK/b; fastcgi_temp_path $WORK/c; uwsgi_temp_path $WORK/d; scgi_temp_path $WORK/e;
gzip on; gzip_types *; server { listen 127.0.0.1:$PORT; root $WORK/html; location /p/ { proxy_pass http://127.0.0.1:$PORT/; } } }
END
$on nginx -c "$WORK/conf" -e "$WORK/error.log" & server=$!
await reachable
for path in f p/f; do ab -q -n 5000 -c 100 -H 'Accept-Encoding: gzip' http://127.0.0.1:$PORT/$path | grep -E 'Complete|Failed|Non-2xx|Document L'; done
kill -QUIT $server; wait $server"""),
    ("vsftpd", "vsftpd curl", r"""
mkdir empty ftp; chmod 755 "$WORK" empty ftp; seq 200000 >ftp/f; chmod 644 ftp/f
cat >conf <<END
listen=YES
background=NO
listen_address=127.0.0.1
listen_port=$PORT
anonymous_enable=YES
no_anon_password=YES
anon_root=$WORK/ftp
secure_chroot_dir=$WORK/empty
seccomp_sandbox=YES
isolate_network=NO
END
$on vsftpd conf & server=$!
await reachable
for i in 1 2 3 4 5; do curl -sS ftp://127.0.0.1:$PORT/f | sha256sum; curl -sS ftp://127.0.0.1:$PORT/ | awk '{ print $5, $9 }'; done
kill $server; wait $server || true"""),
    ("sshd, its sandbox", "openssh-server openssh-client", r"""
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f user; cp user.pub keys
$on /usr/sbin/sshd -D -e -f /dev/null -h "$WORK/host" -p $PORT -o PidFile=none -o StrictModes=no -o AuthorizedKeysFile="$WORK/keys" -o PermitRootLogin=yes 2>log & server=$!
await reachable
for i in $(seq 10); do ssh -F none -i user -p $PORT -o StrictHostKeyChecking=no -o UserKnownHostsFile=known 127.0.0.1 'seq 50000 | sha256sum' 2>/dev/null; done
ssh-keyscan -p $PORT 127.0.0.1 2>/dev/null | wc -l
! grep -i 'violation\|signal\|fatal' log
kill $server; wait $server || true"""),
    ("libreoffice", "libreoffice-writer-nogui libreoffice-calc-nogui", r"""
python3 -c 'for i in range(20000): print(i, i * i % 977, "text %d" % i, i / 8, sep=",")' >t.csv
(echo '<html><body>'; for i in $(seq 2000); do echo "<h3>Title $i</h3><p>Some words of text, $i of them.</p>"; done) >t.html
office() { $on soffice -env:UserInstallation="file://$WORK/user" --headless --convert-to "$@" >/dev/null 2>&1; }
office ods t.csv; mkdir back; office csv --outdir back t.ods; sha256sum <back/t.csv
office txt:Text t.html; sha256sum <t.txt"""),
    ("ffmpeg", "ffmpeg", r"""
$on ffmpeg -v error -f lavfi -i testsrc2=size=1280x720:rate=25:duration=6 -f lavfi -i sine=frequency=440:duration=6 -c:v libx264 -preset veryfast -threads 2 -c:a aac t.mkv
$on ffmpeg -v error -i t.mkv -vf scale=640:-1,hue=s=2 -f framemd5 - | tail -n +8 | sha256sum"""),
    ("R", "r-base-core", r"""
$on R --vanilla -s -e 'set.seed(1); d <- data.frame(x = rnorm(3e5), g = sample(letters, 3e5, TRUE)); d$y <- 2 * d$x + rnorm(3e5)
print(coef(lm(y ~ x + g, d))); print(aggregate(y ~ g, d, mean)); m <- matrix(runif(360000), 600); print(sum(solve(m) %*% m))
l <- lapply(1:200000, function(i) paste("item", i, i %% 7)); print(length(unique(unlist(strsplit(unlist(l), " ")))))'"""),
    ("python, numpy", "python3-numpy", r"""
export PYTHONMALLOC=malloc
$on /usr/bin/python3 -c '
import numpy as np, hashlib
r = np.random.default_rng(1); h = hashlib.sha256()
for size in range(100, 600, 50):
    a = r.integers(0, 99, (size, size)); b = np.sort(a @ a.T, axis=0); h.update(np.unique(b).tobytes())
    parts = [np.concatenate([a[i], b[i]]) for i in range(size)]; h.update(np.stack(parts).cumsum(axis=1).tobytes())
rows = {i: r.random(i % 700) for i in range(20000)}; total = sum(float(v.sum()) for v in rows.values())
print(h.hexdigest(), round(total, 3))'"""),
    ("gdb, gcore", "gdb python3", r"""
$on /usr/bin/python3 -c 'import sys, time
rows = [str(i) * 9 for i in range(300000)]; print("ready", flush=True); time.sleep(120)' >log & program=$!
await grep -q ready log
$on gcore -o core $program >log2 2>&1
file=$(readlink /proc/$program/exe)
echo "core of less than 150 MiB: $(($(du -m core.* | cut -f1) < 150)) $(($(stat -c %s core.*) >> 20 < 150))"
$on gdb -batch -ex 'info threads' -ex bt $file core.$program 2>/dev/null | grep -c '^#'
kill $program; wait $program || true"""),
    ("valgrind", "valgrind perl", r"""
$on valgrind -q --error-exitcode=9 perl -e 'my %h; push @{$h{$_ % 1000}}, "x" x ($_ % 99) for 1 .. 60000; my $n = 0; $n += length for map { @$_ } values %h; print "$n\n"' """),
]


class Peak(threading.Thread):
    """The largest sum of the memory of the processes that run on the allocator: those that the
    script has noted, and their children."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.roots, self.known, self.most, self.over = Path(work) / "roots", set(), 0, False

    def run(self):
        while not self.over:
            if self.roots.exists():
                self.known.update(map(int, self.roots.read_text().split()))
            self.known.update(*(descendants(pid) for pid in list(self.known)))
            self.most = max(self.most, sum(map(proportional_kib, self.known)))
            time.sleep(0.05)


def proportional_kib(pid):
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(rollup.partition("\nPss:")[2].split()[0])
    except (OSError, IndexError):
        return 0  # it has ended


def descendants(pid):
    found = [pid]
    for parent in found:  # grows meanwhile
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                found += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
        except OSError:
            pass
    return found[1:]


def end_all():
    """Ends what a script has left running."""
    for wanted in signal.SIGTERM, signal.SIGKILL:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, wanted)
            except OSError:
                pass
        time.sleep(0.2)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


def used():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(script, library):
    """What it printed with its status; processor seconds; peak MiB; what it said on stderr."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    work = tempfile.mkdtemp()
    environment = {"HOME": work, "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "WORK": work,
                   "PORT": port, "LIBRARY": library}
    before = used()
    peak = Peak(work)
    peak.start()
    # Into files: what is left running would keep pipes open.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        process = subprocess.Popen(["bash", "-c", PRELUDE + script], env=environment, cwd=work,
                                   stdin=subprocess.DEVNULL, stdout=out, stderr=error)
        try:
            status = process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            status = f"none after {SECONDS} s"
        peak.over = True
        peak.join()
        end_all()
        out.seek(0)
        error.seek(0)
        printed, said = out.read().decode(errors="replace"), error.read().decode(errors="replace")
    shutil.rmtree(work, ignore_errors=True)
    return (status, printed), used() - before, peak.most / 1024, said


def is_installed(package):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package],
                          capture_output=True, text=True)
    return done.stdout == "installed"


def measure(script, libraries, rounds):
    """Medians of seconds and MiB by allocator, or what is wrong."""
    samples = {name: [] for name in libraries}
    expected = None
    for turn in range(rounds):
        wrong = []
        for name, library in reversed(in_turn(libraries.items(), turn)):
            (status, printed), seconds, mib, said = run(script, library)
            expected = printed if expected is None and status == 0 else expected
            if status != 0:
                last = said.strip().splitlines()[-1:] or [""]
                wrong.append(f"{name}: status {status}; {last[0][:200]}")
            elif printed != expected:
                wrong.append(f"{name}: {printed[:100]!r} instead of {expected[:100]!r}")
            samples[name].append((seconds, mib))
        if wrong:
            return "; ".join(wrong)
    return {name: [quartiles(column)[1] for column in zip(*taken)] for name, taken in samples.items()}


def processor():
    lines = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return lines[0].partition(": ")[2] if lines else os.uname().machine


def table(results, rounds):
    """As Markdown."""
    good = [result for _, result in results if isinstance(result, dict)]
    lines = ["| program | glibc, s | valloc, s | ratio | glibc, MiB | valloc, MiB | ratio |",
             "|---|---|---|---|---|---|---|"]
    shares = [[result["valloc"][i] / max(result["glibc"][i], 1e-9) for i in (0, 1)] for result in good]
    for name, result in results:
        if isinstance(result, dict):
            (s0, m0), (s1, m1) = result["glibc"], result["valloc"]
            lines.append(f"| {name} | {s0:.2f} | {s1:.2f} | {s1 / s0:.2f} | {m0:.1f} | {m1:.1f} | {m1 / m0:.2f} |")
        else:
            lines.append(f"| {name} | {result.replace('|', '/')} | | | | | |")
    if good:
        means = [math.exp(sum(math.log(share[i]) for share in shares) / len(good)) for i in (0, 1)]
        lines.append(f"| geometric mean of {len(good)} | | | {means[0]:.2f} | | | {means[1]:.2f} |")
    cores = len(os.sched_getaffinity(0))
    return "\n".join(lines) + (f"\n\nMedians of {rounds} rounds in turns, on {cores} processors of an "
                               f"{processor()}, Linux {os.uname().release}, "
                               f"{time.strftime('%Y-%m-%d')}.\n")


def main():
    if sys.argv[1:] == ["--packages"]:
        print(*dict.fromkeys(" ".join(packages for _, packages, _ in PROGRAMS).split()))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--write", help="file whose table is replaced")
    options = parser.parse_args()
    libraries = find(options.build, ["valloc", "glibc"])
    wanted = [name for name in options.only.split(",") if name]
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become children of this
    results = []
    for name, packages, script in PROGRAMS:
        if wanted and not any(name.startswith(start) for start in wanted):
            continue
        missing = [package for package in packages.split() if not is_installed(package)]
        result = f"skipped: {' '.join(missing)} not installed" if missing \
            else measure(script, libraries, options.rounds)
        results.append((name, result))
        print(f"{name}: {result}", file=sys.stderr, flush=True)
    text = table(results, options.rounds)
    print(text)
    if options.write:
        path = Path(options.write)
        head = path.read_text().partition("| program |")[0] if path.exists() else ""
        path.write_text(head + text)
    sys.exit(any(isinstance(result, str) and not result.startswith("skipped") for _, result in results))


if __name__ == "__main__":
    main()
