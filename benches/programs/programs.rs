//! Whole programs, one process for each allocator, in turns: time and peak resident memory.
//! docs/benchmarks.md describes the method.

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::Parser;
use serde::Serialize;
use std::collections::HashMap;
use std::process::Command;
use valloc_benches::child::{self, in_turn};
use valloc_benches::comparison::Comparison;
use valloc_benches::results::{self, count, within, Common, Part};
use valloc_benches::workloads::WORKLOADS;

/// Runs the workloads of Rust programs on global allocators, and reports on them.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Global allocators to compare
    #[arg(long, value_delimiter = ',', default_values_t = CONTENDERS.map(str::to_owned),
          value_parser = PossibleValuesParser::new(CONTENDERS))]
    allocators: Vec<String>,
    /// Compare valloc and jemalloc with their heap profilers on and off, a sample per 512 KiB; needs
    /// the feature `profiling`
    #[arg(long, conflicts_with = "allocators")]
    profiled: bool,
    /// Workloads
    #[arg(long, value_delimiter = ',', default_values_t = WORKLOADS.map(|w| w.0.to_owned()),
          value_parser = PossibleValuesParser::new(WORKLOADS.map(|w| w.0)))]
    only: Vec<String>,
    /// Processes per allocator and workload
    #[arg(long, default_value_t = 5, value_parser = count())]
    rounds: usize,
    /// Amount of work in percent
    #[arg(long, default_value_t = 100, value_parser = within(1..=10_000))]
    scale: usize,
}

const CONTENDERS: [&str; 5] = ["system", "valloc", "mimalloc", "jemalloc", "snmalloc"];

/// With --profiled. What is behind the hyphen is not part of the program's name.
const PROFILED: [&str; 4] = ["valloc", "valloc-profiled", "jemalloc", "jemalloc-profiled"];

/// One run of a program. benches/programs/run.py writes the same columns.
#[derive(Serialize)]
struct Sample {
    program: String,
    allocator: String,
    round: usize,
    cpu_s: f64,
    wall_s: f64,
    peak_mib: f64,
}

fn main() -> Result<()> {
    let mut options = Options::parse();
    if options.profiled {
        anyhow::ensure!(cfg!(feature = "profiling"), "built without the feature `profiling`");
        options.allocators = PROFILED.map(str::to_owned).to_vec();
    }
    let comparison = Comparison::named("programs-rust").context("it is in the list")?;
    let report = || comparison.report(&options.common);
    results::run(&options.common, comparison.name, |part| measure(&options, part), report)
}

fn measure(options: &Options, mut part: Part) -> Result<()> {
    let rounds = if options.common.quick { 1 } else { options.rounds };
    let scale = options.scale.div_ceil(if options.common.quick { 5 } else { 1 }).to_string();
    let mut sums = HashMap::new();
    for round in 0..rounds {
        for (turn, program) in options.only.iter().enumerate() {
            for allocator in in_turn(&options.allocators, turn + round) {
                eprintln!("[{}/{rounds}] program {program}, {allocator}", round + 1);
                let sample = run(program, allocator, &scale).and_then(|(result, sample)| {
                    let expected = sums.entry(program).or_insert_with(|| result.clone());
                    anyhow::ensure!(*expected == result, "the result is not that of the others");
                    Ok(vec![Sample { round, ..sample }])
                });
                part.keep(&format!("{program} on {allocator}"), sample)?;
            }
        }
    }
    part.end()
}

/// Runs a program once. Returns its result and the resources it used.
fn run(program: &str, allocator: &str, scale: &str) -> Result<(String, Sample)> {
    let (name, profiled) = match allocator.split_once('-') {
        Some((name, _)) => (name, true),
        None => (allocator, false),
    };
    let binary = std::env::current_exe()?.with_file_name(format!("program-{name}"));
    let mut command = Command::new(binary);
    if profiled {
        command.env("VALLOC_PROFILE", "/dev/null");
        command.env("_RJEM_MALLOC_CONF", "prof:true,lg_prof_sample:19");
    }
    let (output, usage) = child::run(command.args([program, scale]))?;
    let output = String::from_utf8(output)?;
    let (result, peak_kib) =
        output.trim().split_once(' ').context("a program prints result and peak")?;
    let sample = Sample {
        program: program.to_owned(),
        allocator: allocator.to_owned(),
        round: 0,
        cpu_s: usage.cpu,
        wall_s: usage.wall,
        peak_mib: peak_kib.parse::<f64>()? / 1024.0,
    };
    Ok((result.to_owned(), sample))
}
