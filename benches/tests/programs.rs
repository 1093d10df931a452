//! The comparison of whole programs, on a hundredth of its work: every allocator finishes every
//! workload with the same result, and the samples, the table and the plots are written.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use valloc_benches::workloads::WORKLOADS;

const ALLOCATORS: usize = 5;

#[test]
fn every_allocator_runs_every_program() {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("programs");
    let run = Command::new(env!("CARGO_BIN_EXE_programs"))
        .args(["--rounds", "1", "--scale", "1", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));

    let mut samples = csv::Reader::from_path(out.join("programs-rust-samples.csv")).unwrap();
    let seen: HashSet<_> = samples
        .records()
        .map(|record| {
            let record = record.unwrap();
            (record[0].to_owned(), record[1].to_owned())
        })
        .collect();
    assert_eq!(seen.len(), WORKLOADS.len() * ALLOCATORS);

    let table = fs::read_to_string(out.join("programs-rust.txt")).unwrap();
    for (name, _) in WORKLOADS {
        assert!(table.contains(name), "{name} is missing in:\n{table}");
    }
    for plot in ["programs-rust-cpu_s.svg", "programs-rust-peak_mib.svg"] {
        let svg = fs::read_to_string(out.join(plot)).unwrap();
        assert!(svg.contains("valloc") && svg.trim_end().ends_with("</svg>"), "{plot}");
    }
    fs::remove_dir_all(out).unwrap();
}

/// jemalloc has its profiler only if it is built so; then all four finish.
#[test]
fn profilers_are_compared_on_request() {
    let out = folder("profiled");
    let run = Command::new(env!("CARGO_BIN_EXE_programs"))
        .args(["--profiled", "--rounds", "1", "--scale", "1", "--only", "string", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&run.stderr);
    if cfg!(feature = "profiling") {
        assert!(run.status.success(), "{error}");
        let samples = read(out.join("programs-rust-samples.csv"));
        for name in ["valloc,", "valloc-profiled,", "jemalloc,", "jemalloc-profiled,"] {
            assert!(samples.contains(&format!("string,{name}")), "{samples}");
        }
    } else {
        assert!(!run.status.success() && error.contains("without the feature"), "{error}");
    }
    fs::remove_dir_all(out).unwrap();
}

/// A folder of results of its own.
fn folder(name: &str) -> PathBuf {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out).unwrap();
    out
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// It failed, and says at what; what did not fail is in the samples.
fn failed(run: &Output, what: &str, samples: &str, lines: usize) {
    let error = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && error.contains(what), "{error}");
    assert_eq!(samples.lines().count(), 1 + lines, "{samples}");
}

#[test]
fn failure_takes_no_other_result_away() {
    let out = folder("failure");
    // Beside it is the program of one allocator alone.
    let binaries = folder("failure-programs");
    let copy = |binary: &str, name: &str| fs::copy(binary, binaries.join(name)).unwrap();
    copy(env!("CARGO_BIN_EXE_programs"), "programs");
    copy(env!("CARGO_BIN_EXE_program-system"), "program-system");
    let run = Command::new(binaries.join("programs"))
        .args(["--rounds", "2", "--scale", "1", "--only", "string,regex"])
        .args(["--allocators", "valloc,system", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    failed(&run, "string on valloc", &read(out.join("programs-rust-samples.csv")), 4);
    assert!(read(out.join("programs-rust.txt")).contains("regex"), "the rest is reported on");
    assert_eq!(read(out.join("programs-rust-failures.txt")).matches("on valloc").count(), 4);
    assert!(read(out.join("index.html")).contains("Failed:\nstring on valloc"));

    // Where nothing comes to an end, what was measured before stays.
    let before = read(out.join("programs-rust-samples.csv"));
    let run = Command::new(binaries.join("programs"))
        .args(["--rounds", "1", "--only", "regex", "--allocators", "valloc", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    failed(&run, "regex on valloc", &before, 4);
    assert_eq!(read(out.join("programs-rust-samples.csv")), before);
    assert_eq!(read(out.join("programs-rust-failures.txt")).matches("on valloc").count(), 1);
    fs::remove_dir_all(out).unwrap();
    fs::remove_dir_all(binaries).unwrap();
}

#[test]
fn interruption_keeps_what_was_measured() {
    let out = folder("interruption");
    let mut run = Command::new(env!("CARGO_BIN_EXE_programs"))
        .args(["--rounds", "100000", "--scale", "1", "--only", "string"])
        .args(["--allocators", "system", "--out"])
        .arg(&out)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let samples = out.join("programs-rust-samples.csv");
    let begin = Instant::now();
    while fs::read_to_string(&samples).unwrap_or_default().lines().count() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(60), "samples are in the file as they come");
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: the process is a child that was not waited for.
    unsafe { libc::kill(run.id() as libc::pid_t, libc::SIGINT) };
    assert!(!run.wait().unwrap().success());
    assert!(read(out.join("programs-rust.txt")).contains("string"));
    assert!(read(out.join("index.html")).contains("begun"));
    fs::remove_dir_all(out).unwrap();
}

/// The same of programs by LD_PRELOAD, on a malloc that ends the process.
#[test]
fn failure_of_a_preloaded_allocator() {
    let out = folder("preloaded");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    fs::write(out.join("bad.c"), "void *malloc(unsigned long n) { __builtin_trap(); }").unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o", "libbad.so", "bad.c"])
        .current_dir(&out)
        .status()
        .unwrap();
    assert!(built.success());
    let run = Command::new("python3")
        .arg(format!("{root}/benches/programs/run.py"))
        .args([root, "--rounds", "2", "--only", "perl", "--allocators", "glibc", "--extra"])
        .arg(format!("bad={}", out.join("libbad.so").display()))
        .arg("--out")
        .arg(out.join("programs-c-samples.csv"))
        .output()
        .unwrap();
    failed(&run, "perl on bad", &read(out.join("programs-c-samples.csv")), 2);
    // Not tried again in the second round.
    assert_eq!(read(out.join("programs-c-failures.txt")).matches("perl on bad").count(), 1);
    assert!(String::from_utf8_lossy(&run.stdout).contains("perl"), "the rest is reported on");
    fs::remove_dir_all(out).unwrap();
}

/// Two of the whole programs come to the same result on valloc as on glibc.
#[test]
fn programs_run_on_valloc() {
    let out = folder("on-valloc");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let built = Command::new("cc")
        .args(["-std=gnu11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-builtin"])
        .args(["-ftls-model=initial-exec", "-DVALLOC_OVERRIDE=1", "-Ic/src", "-Ic/include", "-o"])
        .arg(out.join("libvalloc-override.so"))
        .args(["c/src/unity.c", "c/src/api/override.c"])
        .current_dir(root)
        .status()
        .unwrap();
    assert!(built.success());
    let run = Command::new("python3")
        .arg(format!("{root}/benches/programs/run.py"))
        .arg(&out)
        .args(["--rounds", "1", "--only", "python3,perl", "--allocators", "valloc,glibc", "--out"])
        .arg(out.join("programs-c-samples.csv"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let samples = read(out.join("programs-c-samples.csv"));
    for start in ["python3,valloc,0,", "perl,valloc,0,", "python3,glibc,0,", "perl,glibc,0,"] {
        assert!(samples.contains(start), "{start} is missing in\n{samples}");
    }
    assert!(String::from_utf8_lossy(&run.stdout).contains("valloc to glibc: time "));
    fs::remove_dir_all(out).unwrap();
}

/// The tables from summaries whose means are known.
#[test]
fn tables_say_what_was_measured() {
    let out = folder("tables");
    let founding = "allocator,size,threads,filled,mean_ns\n\
                    malloc,16,1,true,12.04\nvalloc,16,1,true,2\noriginal,16,1,true,1\n\
                    malloc,4096,1,true,1234.5\nvalloc,4096,1,true,1358\n";
    fs::write(out.join("founding-summary.csv"), founding).unwrap();
    let columns = "subject,allocator,figure,runs,median,lower_quartile,upper_quartile";
    let mut programs = format!("{columns}\n");
    for (subject, allocator, seconds, mib) in [
        ("a", "valloc", 1.0, 30.0),
        ("a", "glibc", 2.0, 20.0),
        ("b", "valloc", 3.0, 50.0),
        ("b", "glibc", 1.5, 100.0),
    ] {
        programs += &format!("{subject},{allocator},cpu_s,5,{seconds},1,3\n");
        programs += &format!("{subject},{allocator},peak_mib,5,{mib},1,3\n");
    }
    fs::write(out.join("programs-c-summary.csv"), &programs).unwrap();
    fs::write(out.join("programs-rust-summary.csv"), programs.replace("glibc", "system")).unwrap();
    fs::write(out.join("threads-summary.csv"), programs.replace("cpu_s", "mops")).unwrap();
    let micro = "replace 1000000,valloc,total_ns,3,52.6,1,3\n\
                 replace 1000000,valloc,peak_mib,3,539,1,3\n\
                 replace 1000000,glibc,total_ns,3,1214,1,3\n\
                 replace 1000000,glibc,peak_mib,3,500,1,3\n";
    fs::write(out.join("micro-summary.csv"), format!("{columns}\n{micro}")).unwrap();
    let mut startup = format!("{columns}\n");
    for (allocator, us, kib) in
        [("nothing", 500, 1500), ("empty", 505, 1510), ("valloc", 600, 1700), ("tiny", 550, 1600)]
    {
        startup += &format!("true,{allocator},cpu_us,3,{us},1,3\n");
        startup += &format!("true,{allocator},peak_kib,3,{kib},1,3\n");
    }
    fs::write(out.join("startup-summary.csv"), startup).unwrap();
    let mut latency = "allocator,size,operation,step_ns,p50,p999\n".to_owned();
    for (size, valloc, malloc) in [(64, 20, 10), (128, 20, 0), (256, 30, 10), (1024, 10, 300)] {
        latency += &format!("valloc,{size},free,10,{valloc},{valloc}\n");
        latency += &format!("malloc,{size},free,10,{malloc},{malloc}\n");
    }
    fs::write(out.join("latency-summary.csv"), latency).unwrap();
    let mut memory = format!("{columns}\n");
    for (scenario, allocator, mib) in [
        ("fragments-small", "valloc", 200),
        ("fragments-small", "malloc", 100),
        ("waves", "valloc", 300),
        ("waves", "malloc", 400),
    ] {
        let phases = ["mean_mib", "peak_mib", "cpu_s", "after free 95 %", "after idle"];
        for figure in phases.into_iter().chain(["after tick", "after purge", "after end"]) {
            memory += &format!("{scenario},{allocator},{figure},2,{mib},1,3\n");
        }
    }
    fs::write(out.join("memory-summary.csv"), memory).unwrap();
    let instructions = "pair 64: malloc,valloc,instructions,1,16,16,16\n\
                        pair 64: malloc,glibc,instructions,1,20,20,20\n";
    fs::write(out.join("instructions-summary.csv"), format!("{columns}\n{instructions}")).unwrap();
    let mut instances = "measure,round,ns\n".to_owned();
    for (measure, ns) in [
        ("pair_process", 2.0),
        ("pair_own", 2.5),
        ("pair_shared", 9.0),
        ("life_empty", 110.0),
        ("life_small", 900.0),
        ("free_each", 1e6),
        ("destroy", 1e5),
    ] {
        for (round, times) in [1.0, 9.0, 0.1].into_iter().enumerate() {
            instances += &format!("{measure},{round},{}\n", ns * times);
        }
    }
    fs::write(out.join("instances-samples.csv"), instances).unwrap();
    let runs = "runs,length,round,ns\n1000,fits,0,99\n1000,long,0,300\n1000,long,1,400\n";
    fs::write(out.join("runs-samples.csv"), runs).unwrap();
    let secure = "subject,allocator,round,ns,cpu_s,peak_mib\n\
                  pair 64,valloc,0,3.94,,\npair 64,canary,0,5.66,,\npair 64,all,0,13.4,,\n\
                  perl,valloc,0,,1.5,30\nperl,canary,0,,2.5,31\nperl,all,0,,3.5,32\n";
    fs::write(out.join("secure-samples.csv"), secure).unwrap();
    fs::write(out.join("runs-run.txt"), "Commit 123abc, begun today.\n").unwrap();
    fs::write(out.join("secure-failures.txt"), "perl on scudo: status 11\n").unwrap();
    fs::write(out.join("circumstances.txt"), "Commit: other\nProcessor: fast, 2 cores\n").unwrap();
    let run = || {
        Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/report/tables.py"))
            .arg(&out)
            .output()
            .unwrap()
    };
    let done = run();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    let printed = String::from_utf8_lossy(&done.stdout);
    assert_eq!(read(out.join("results.md")), printed);
    // Sentences are wrapped.
    let text = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "| Processor | fast, 2 cores |",
        "Commit 123abc. ",
        "Commit 123abc, begun today. 2 rounds.",
        "Failed: ``` perl on scudo: status 11 ```",
        "| replace, 1,000,000 live | **52.6** / 539 | 1,214 / 500 |",
        "in memory at: replace 1000000 (glibc by 8 %).",
        "| | **valloc** | empty | tiny |",
        "| true | 1.20 / 200 | 1.01 / 10 | **1.10** / 100 |",
        "in time at: true (tiny by 9 %).",
        "| free, 1 KiB | 300 / 300 | **10** / 10 |",
        // 10 and 20 ns may be the same by such a clock; below a step nobody knows.
        "in the median at: free, 128 B (malloc by 100 %) and free, 256 B (malloc by 200 %).",
        "| fragments-small, purge | **100** | 200 |",
        "| waves | 400 / 400 | **300** / 300 |",
        "in memory after the purge at: fragments-small (malloc by 100 %).",
        "| pair 64: malloc | **16.0** | 20.0 |",
        "| from an allocator | 2.50 | 1.25 of the process's |",
        "| destroyed | 100,000 | 10 times faster |",
        "| 1,000 | 99 | 350 |",
        "| build | pair 64 B | perl |",
        "| `canary` | 5.7 | 2.50 / 31 |",
        "| **all of them** | **13.4** | **3.50 / 32** |",
        "| 1 thread | malloc | calloc | **valloc** | mimalloc | jemalloc | snmalloc |",
        "| 16 B | 12.0 | - | **2.0** | - | - | - |",
        "| 4 KiB | **1,234** | - | 1,358 | - | - | - |",
        "valloc is the fastest at 1 of 2, and up to 5 % behind at 0.",
        "4 KiB with 1 thread, filled (1,358 ns, malloc 1,234: 10 %).",
        "| a | **1.00** / 30 | 2.00 / 20 |",
        "| b | 3.00 / 50 | **1.50** / 100 |",
        // Square roots of 0.5 * 2, and of 1.5 * 0.5.
        "Geometric means, valloc to the other: glibc 1.00 of the time and 0.87 of the memory.",
        "ahead by more than 5 % in time at: b (glibc by 100 %).",
        "| a | 2.00 / 20 | **1.00** / 30 |",
        // Square roots of 2 and 1.5, of 2 and 2.
        "share of the best, time and memory: system 1.41 and 1.41, valloc 1.41 and 1.22.",
        // More operations are better.
        "| b | **3.00** / 50 | 1.50 / 100 |",
        "ahead by more than 5 % in speed at: a (glibc by 100 %).",
    ] {
        assert!(text.contains(expected), "{expected}\nis missing in\n{text}");
    }
    fs::remove_file(out.join("memory-summary.csv")).unwrap();
    assert!(String::from_utf8_lossy(&run().stderr).contains("memory was not measured"));
    fs::remove_dir_all(out).unwrap();
}

/// Their build scripts take any debug information for a debug build (`Cargo.toml`): a peer would be
/// compared without optimisation.
#[test]
fn peers_are_built_as_in_a_release() {
    let manifest =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")).unwrap();
    for peer in ["libmimalloc-sys", "snmalloc-sys", "tikv-jemalloc-sys"] {
        assert!(manifest.contains(&format!("\n{peer} = {{ debug = false }}\n")), "{peer}");
    }
    for binary in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/programs/on")).unwrap() {
        let name = binary.unwrap().file_name().into_string().unwrap();
        let known = ["jemalloc.rs", "mimalloc.rs", "snmalloc.rs", "system.rs", "valloc.rs"];
        assert!(known.contains(&&name[..]), "{name} is a peer that this test does not know");
    }
}
