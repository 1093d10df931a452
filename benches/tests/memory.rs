//! Memory over time, on a hundredth of its memory: what fragments and server do is in the samples.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A sample: phase, live MiB, resident MiB.
type Moment = (String, f64, f64);

/// The samples of a scenario on an allocator.
fn measure(scenario: &str, allocator: &str) -> Vec<Moment> {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("memory-{scenario}"));
    let _ = fs::remove_dir_all(&out);
    let run = Command::new(env!("CARGO_BIN_EXE_memory"))
        .args(["--quick", "--mib", "32", "--allocators", allocator, "--scenarios", scenario])
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for plot in [format!("memory-{scenario}.svg"), "memory.txt".to_owned()] {
        assert!(out.join(&plot).exists(), "{plot} was not written");
    }
    let mut csv = csv::Reader::from_path(out.join("memory-samples.csv")).unwrap();
    let header = csv.headers().unwrap().clone();
    let place = |name: &str| header.iter().position(|column| column == name).unwrap();
    let (phase, live, resident) = (place("phase"), place("live_mib"), place("resident_mib"));
    let moments = csv
        .records()
        .map(|record| {
            let record = record.unwrap();
            (
                record[phase].to_owned(),
                record[live].parse().unwrap(),
                record[resident].parse().unwrap(),
            )
        })
        .collect();
    fs::remove_dir_all(out).unwrap();
    moments
}

#[test]
fn fragments_are_given_back_by_a_purge() {
    let moments = measure("fragments-mixed", "valloc");
    let mut phases: Vec<&str> = moments.iter().map(|moment| &moment.0[..]).collect();
    phases.dedup();
    let expected = ["fill", "free 95 %", "idle", "tick", "purge", "grow", "free all", "end"];
    assert_eq!(phases, expected);
    let after = |phase: &str| moments.iter().rfind(|moment| moment.0 == phase).unwrap();
    let near = |value: f64, expected: f64| (value - expected).abs() < 0.1;
    assert!(near(after("fill").1, 8.0) && near(after("free 95 %").1, 0.4), "{moments:?}");
    assert!(after("fill").2 > 7.0, "blocks are filled: {moments:?}");
    assert!(after("purge").2 < after("fill").2 / 2.0, "{moments:?}");
    assert!(near(after("grow").1, 8.0) && after("end").1 < 0.1, "{moments:?}");
}

#[test]
fn server_stays_at_its_size() {
    let moments = measure("server", "valloc");
    let served: Vec<_> = moments.iter().filter(|moment| moment.0 == "serve").collect();
    // Each minute as much is replaced, then freed and filled to the same size.
    assert_eq!(served.len(), 60 * (1 + 2 * 20));
    for moment in served {
        assert!((moment.1 - 4.0).abs() < 0.1 && moment.2 > 3.0, "{moment:?}");
    }
}
