//! The comparison of whole programs, on a hundredth of its work: every allocator finishes every
//! workload with the same result, and the samples, the table and the plots are written.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
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
