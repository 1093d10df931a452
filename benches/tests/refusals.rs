//! What cannot be measured is refused before anything is written or run, by a message that says what
//! could be; what an earlier run left stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A folder with results of an earlier run of every part.
fn folder(name: &str) -> PathBuf {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out).unwrap();
    for part in ["founding", "latency", "memory", "programs-rust", "own"] {
        for ending in ["samples.csv", "run.txt", "failures.txt"] {
            fs::write(out.join(format!("{part}-{ending}")), "earlier").unwrap();
        }
    }
    out
}

/// The files and what is in them.
fn contents(out: &Path) -> Vec<(PathBuf, String)> {
    let paths = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> =
        paths.map(|path| (path.clone(), fs::read_to_string(&path).unwrap())).collect();
    all.sort();
    all
}

fn refused(command: &str, run: &Output, expected: &[&str]) {
    let error = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && !error.contains("panicked"), "{command}: {error}");
    assert!(!error.contains("Traceback"), "{command}: {error}");
    for word in expected {
        assert!(error.contains(word), "{command}: {word} is missing in\n{error}");
    }
}

#[test]
fn programs_refuse_what_they_cannot_measure() {
    let out = folder("refusals");
    let before = contents(&out);
    let founding = env!("CARGO_BIN_EXE_founding");
    let latency = env!("CARGO_BIN_EXE_latency");
    let memory = env!("CARGO_BIN_EXE_memory");
    let programs = env!("CARGO_BIN_EXE_programs");
    for (binary, arguments, expected) in [
        (founding, "--allocators mallocc", &["mallocc", "malloc, calloc", "original"][..]),
        (founding, "--allocators malloc,", &["snmalloc"]),
        (founding, "--threads 0", &["0 is not in 1..=1024"]),
        (founding, "--threads 1,100000", &["1..=1024"]),
        (founding, "--sizes 0", &["0 is not in 1..="]),
        (founding, "--sizes 99999999999999", &["is not in 1..="]),
        (founding, "--allocations 0", &["0 is not in 1..="]),
        (founding, "--iterations 0", &["0 is not in 1..="]),
        (founding, "--rounds 0", &["0 is not in 1..="]),
        (latency, "--allocators nobody", &["nobody", "malloc, calloc"]),
        (latency, "--sizes 0", &["0 is not in 1..=67108864"]),
        (latency, "--sizes 64,99999999", &["1..=67108864"]),
        (latency, "--operations 0", &["0 is not in 1..="]),
        (latency, "--rounds 0", &["0 is not in 1..="]),
        (memory, "--allocators nobody", &["nobody", "malloc, calloc"]),
        (memory, "--scenarios nope", &["nope", "fragments-small", "waves, server"]),
        (memory, "--mib 0", &["0 is not in 1..="]),
        (memory, "--rounds 0", &["0 is not in 1..="]),
        (programs, "--allocators nobody", &["nobody", "system, valloc"]),
        (programs, "--only json,nope", &["nope", "json, regex"]),
        (programs, "--scale 0", &["0 is not in 1..="]),
        (programs, "--rounds 0", &["0 is not in 1..="]),
    ] {
        let run = Command::new(binary)
            .args(arguments.split(' '))
            .arg("--out")
            .arg(&out)
            .output()
            .unwrap();
        refused(arguments, &run, expected);
    }
    assert_eq!(contents(&out), before);
    fs::remove_dir_all(out).unwrap();
}

#[test]
fn scripts_refuse_what_they_cannot_measure() {
    let out = folder("script-refusals");
    let before = contents(&out);
    let samples = out.join("own-samples.csv");
    let number = &["'0' is not a whole number from 1 on"][..];
    for (script, arguments, expected) in [
        ("speed/compare.py", "--rounds 0", number),
        ("speed/compare.py", "--only nope", &["'nope'", "pair 8", "bulk 64 random"]),
        ("speed/compare.py", "--allocators nobody", &["nobody", "valloc, glibc"]),
        ("threads/threads.py", "--rounds 0", number),
        ("threads/threads.py", "--percent 0", number),
        ("threads/threads.py", "--only nope", &["'nope'", "oneway, ring"]),
        ("speed/instructions.py", "--only nope", &["'nope'", "pair 16", "instance 64"]),
        ("startup/startup.py", "--rounds 0", number),
        ("speed/own.py", "--rounds 0", number),
        ("speed/secure.py", "--rounds 0", number),
        ("speed/secure.py", "--only nope", &["'nope'", "valloc, random"]),
        ("speed/secure.py", "--programs nope", &["'nope'", "python3, perl"]),
        ("programs/run.py", "--rounds 0", number),
        ("programs/run.py", "--only perl,nope", &["'nope'", "python3, perl"]),
        ("programs/run.py", "--allocators nobody", &["nobody", "valloc, glibc"]),
        ("report/commits.py", "--programs nope HEAD", &["'nope'", "python3, perl"]),
        ("report/commits.py", "--rounds 0 HEAD", number),
    ] {
        let mut command = Command::new("python3");
        command.arg(format!("{ROOT}/benches/{script}")).args(arguments.split(' ')).arg(ROOT);
        match script {
            "speed/secure.py" | "speed/own.py" => command.arg("--out").arg(&out),
            // It keeps no samples.
            "report/commits.py" => &mut command,
            _ => command.arg("--out").arg(&samples),
        };
        refused(&format!("{script} {arguments}"), &command.output().unwrap(), expected);
    }
    assert_eq!(contents(&out), before);
    fs::remove_dir_all(out).unwrap();
}
