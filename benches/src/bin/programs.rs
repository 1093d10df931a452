//! Whole programs, a process for each allocator in turns: time and peak resident memory.
//! docs/benchmarks.md has the method.

use anyhow::Result;
use clap::Parser;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::process::Command;
use valloc_benches::chart::{self, Axis, Scale};
use valloc_benches::child::{self, in_turn};
use valloc_benches::results::Common;
use valloc_benches::workloads::WORKLOADS;
use valloc_benches::{geometric_mean, page, quantile, results};

/// Runs the workloads of Rust programs on global allocators, and reports on them.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Global allocators to compare
    #[arg(long, value_delimiter = ',', default_values_t = CONTENDERS.map(str::to_owned))]
    allocators: Vec<String>,
    /// Workloads
    #[arg(long, value_delimiter = ',', default_values_t = WORKLOADS.map(|w| w.0.to_owned()))]
    only: Vec<String>,
    /// Processes per allocator and workload
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Amount of work in percent
    #[arg(long, default_value_t = 100)]
    scale: usize,
    /// Run nothing: report on the samples of C and C++ programs (programs-c-samples.csv)
    #[arg(long)]
    report_c: bool,
}

const CONTENDERS: [&str; 5] = ["system", "valloc", "mimalloc", "jemalloc", "snmalloc"];

/// One run of a program. benches/programs/run.py writes the same columns.
#[derive(Serialize, Deserialize)]
struct Sample {
    program: String,
    allocator: String,
    round: usize,
    cpu_s: f64,
    wall_s: f64,
    peak_mib: f64,
}

/// A program on an allocator: medians and quartiles over the rounds.
#[derive(Serialize)]
struct Summary {
    program: String,
    allocator: String,
    runs: usize,
    cpu_s: f64,
    cpu_s_lower_quartile: f64,
    cpu_s_upper_quartile: f64,
    wall_s: f64,
    peak_mib: f64,
    peak_mib_lower_quartile: f64,
    peak_mib_upper_quartile: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let out = &options.common.out;
    results::folder(out)?;
    let (name, samples) = if options.report_c {
        ("programs-c", results::read_csv(&options.common.file("programs-c-samples.csv"))?)
    } else {
        let samples = measure(&options)?;
        results::write_csv(&options.common.file("programs-rust-samples.csv"), &samples)?;
        ("programs-rust", samples)
    };
    let summary = summarise(&samples);
    results::write_csv(&options.common.file(&format!("{name}-summary.csv")), &summary)?;
    results::publish(&options.common.file(&format!("{name}.txt")), &table(&summary)?)?;
    for figure in &FIGURES {
        let path = options.common.file(&format!("{name}-{}.svg", figure.name));
        let axis = Axis::new("share of the best", Scale::Decades);
        chart::dots(&path, figure.title, &axis, &figure.shares(&summary))?;
    }
    page::write(out)?;
    println!("\nSamples, summary and plots are in {}.", out.display());
    Ok(())
}

fn measure(options: &Options) -> Result<Vec<Sample>> {
    let rounds = if options.common.quick { 1 } else { options.rounds };
    let scale = if options.common.quick { options.scale / 5 } else { options.scale }.to_string();
    let here = std::env::current_exe()?;
    let mut samples = Vec::new();
    let mut sums = HashMap::new();
    for round in 0..rounds {
        for program in &options.only {
            for allocator in in_turn(&options.allocators, round) {
                eprintln!("[{}/{rounds}] program {program}, {allocator}", round + 1);
                let binary = here.with_file_name(format!("program-{allocator}"));
                let (output, usage) = child::run(Command::new(binary).args([program, &scale]))?;
                let expected = sums.entry(program).or_insert_with(|| output.clone());
                anyhow::ensure!(
                    *expected == output,
                    "{program} has another result on {allocator} than on another allocator"
                );
                samples.push(Sample {
                    program: program.clone(),
                    allocator: allocator.clone(),
                    round,
                    cpu_s: usage.cpu,
                    wall_s: usage.wall,
                    peak_mib: usage.peak_mib,
                });
            }
        }
    }
    Ok(samples)
}

/// One row for every program and allocator, in the order of their first samples.
fn summarise(samples: &[Sample]) -> Vec<Summary> {
    let mut order = Vec::new();
    let mut groups: HashMap<_, Vec<&Sample>> = HashMap::new();
    for sample in samples {
        let key = (&sample.program, &sample.allocator);
        let group = groups.entry(key).or_default();
        if group.is_empty() {
            order.push(key);
        }
        group.push(sample);
    }
    order.sort_by_key(|(program, _)| samples.iter().position(|s| s.program == **program));
    let row = |key: (&String, &String)| {
        let group = &groups[&key];
        let of = |part: f64, figure: fn(&Sample) -> f64| {
            quantile(&mut group.iter().map(|sample| figure(sample)).collect::<Vec<_>>(), part)
        };
        Summary {
            program: key.0.clone(),
            allocator: key.1.clone(),
            runs: group.len(),
            cpu_s: of(0.5, |s| s.cpu_s),
            cpu_s_lower_quartile: of(0.25, |s| s.cpu_s),
            cpu_s_upper_quartile: of(0.75, |s| s.cpu_s),
            wall_s: of(0.5, |s| s.wall_s),
            peak_mib: of(0.5, |s| s.peak_mib),
            peak_mib_lower_quartile: of(0.25, |s| s.peak_mib),
            peak_mib_upper_quartile: of(0.75, |s| s.peak_mib),
        }
    };
    order.into_iter().map(row).collect()
}

/// What is compared.
struct Figure {
    name: &'static str,
    title: &'static str,
    of: fn(&Summary) -> f64,
    /// Half of the distance between the quartiles, as a share of the median
    spread: fn(&Summary) -> f64,
}

const FIGURES: [Figure; 2] = [
    Figure {
        name: "time",
        title: "Processor time, user and system, seconds",
        of: |row| row.cpu_s,
        spread: |row| (row.cpu_s_upper_quartile - row.cpu_s_lower_quartile) / 2.0 / row.cpu_s,
    },
    Figure {
        name: "memory",
        title: "Peak resident memory, MiB",
        of: |row| row.peak_mib,
        spread: |row| {
            (row.peak_mib_upper_quartile - row.peak_mib_lower_quartile) / 2.0 / row.peak_mib
        },
    },
];

impl Figure {
    /// For every program: each allocator's figure as a share of the best one's.
    fn shares(&self, summary: &[Summary]) -> Vec<(String, Vec<(String, f64)>)> {
        let mut rows: Vec<(String, Vec<(String, f64)>)> = Vec::new();
        for row in summary {
            let dot = (row.allocator.clone(), (self.of)(row));
            match rows.last_mut().filter(|last| last.0 == row.program) {
                Some(last) => last.1.push(dot),
                None => rows.push((row.program.clone(), vec![dot])),
            }
        }
        for (_, dots) in &mut rows {
            let best = dots.iter().map(|dot| dot.1).fold(f64::INFINITY, f64::min);
            dots.iter_mut().for_each(|dot| dot.1 /= best);
        }
        rows
    }
}

fn table(summary: &[Summary]) -> Result<String> {
    let mut out = String::new();
    let mut names: Vec<&str> = Vec::new();
    for row in summary {
        if !names.contains(&row.allocator.as_str()) {
            names.push(&row.allocator);
        }
    }
    let values: BTreeMap<_, _> =
        summary.iter().map(|row| ((&row.program[..], &row.allocator[..]), row)).collect();
    for figure in &FIGURES {
        writeln!(out, "\n{}; share of the best; median over the rounds", figure.title)?;
        write!(out, "{:>10}", "")?;
        names.iter().try_for_each(|name| write!(out, " {name:>16}"))?;
        writeln!(out, " {:>8}", "spread")?;
        let rows = figure.shares(summary);
        for (program, shares) in &rows {
            write!(out, "{program:>10}")?;
            let mut spread = 0.0f64;
            for name in &names {
                let share = shares.iter().find(|share| share.0 == *name);
                match (share, values.get(&(&program[..], name))) {
                    (Some((_, share)), Some(row)) => {
                        write!(out, " {:>9.2} {share:>6.2}", (figure.of)(row))?;
                        spread = spread.max((figure.spread)(row));
                    }
                    _ => write!(out, " {:>16}", "-")?,
                }
            }
            writeln!(out, " {:>6.1} %", spread * 100.0)?;
        }
        write!(out, "{:>10}", "mean")?;
        for name in &names {
            let mine = rows.iter().filter_map(|row| row.1.iter().find(|dot| dot.0 == *name));
            let mean = geometric_mean(mine.map(|dot| dot.1));
            write!(out, " {:>9} {mean:>6.3}", "")?;
        }
        writeln!(out, "   geometric, of the shares")?;
    }
    writeln!(
        out,
        "\nspread: the largest half distance between quartiles, in percent of the median"
    )?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(program: &str, allocator: &str, cpu_s: f64, peak_mib: f64) -> Sample {
        let (program, allocator) = (program.to_owned(), allocator.to_owned());
        Sample { program, allocator, round: 0, cpu_s, wall_s: cpu_s, peak_mib }
    }

    #[test]
    fn shares_are_relative_to_the_best_of_each_program() -> Result<()> {
        let samples = [
            sample("a", "one", 1.0, 30.0),
            sample("b", "one", 4.0, 10.0),
            sample("a", "two", 2.0, 10.0),
            sample("b", "two", 2.0, 10.0),
            sample("a", "one", 3.0, 30.0),
            sample("a", "one", 5.0, 30.0),
        ];
        let summary = summarise(&samples);
        let order: Vec<_> = summary.iter().map(|row| (&row.program[..], row.runs)).collect();
        assert_eq!(order, [("a", 3), ("a", 1), ("b", 1), ("b", 1)]);
        let time = FIGURES[0].shares(&summary);
        let dots = |one, two| vec![("one".to_owned(), one), ("two".to_owned(), two)];
        assert_eq!(time, [("a".to_owned(), dots(1.5, 1.0)), ("b".to_owned(), dots(2.0, 1.0))]);
        let text = table(&summary)?;
        assert!(text.contains("1.732"), "the mean of 1.5 and 2: {text}");
        assert!(text.contains("33.3 %"), "quartiles 2 and 4 round 3: {text}");
        Ok(())
    }
}
