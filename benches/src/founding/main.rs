//! The founding benchmark: valloc against malloc, calloc and the peers, by size and by threads.
//!
//! Every thread makes its allocations, fills them by memset or leaves them untouched, and frees
//! them in the order they came; the phases are timed apart. Each allocator runs in a process of
//! its own, so that resident memory is its own, and the processes take turns, so that a disturbed
//! moment of the machine disturbs everybody. docs/benchmarks.md describes the method.

mod child;
mod plot;
mod report;

use anyhow::Result;
use clap::Parser;
use valloc_benches::child::{in_turn, list, samples as child_samples};
use valloc_benches::results::Common;
use valloc_benches::{page, results, NAMES};

/// Compares allocators by size and by threads.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Allocators to compare; `original` is the founding system
    #[arg(long, value_delimiter = ',', default_values_t = everybody())]
    allocators: Vec<String>,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8])]
    threads: Vec<usize>,
    /// Processes per allocator and number of threads
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Allocations per thread and iteration (fewer of sizes that would fill more than 128 MiB)
    #[arg(long, default_value_t = 1000)]
    allocations: usize,
    /// Iterations per process
    #[arg(long, default_value_t = 5)]
    iterations: u32,
    /// Whether blocks are filled by memset
    #[arg(long, value_delimiter = ',', action = clap::ArgAction::Set, num_args = 1,
          default_values_t = [true, false])]
    filled: Vec<bool>,
    /// Sizes in bytes instead of the powers of two from 8 B to 32 MiB
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<usize>,
}

fn everybody() -> Vec<String> {
    NAMES.iter().copied().chain(["original"]).map(str::to_owned).collect()
}

impl Options {
    fn sizes(&self) -> Vec<usize> {
        if !self.sizes.is_empty() {
            return self.sizes.clone();
        }
        let steps = if self.common.quick { 2 } else { 1 };
        (3..=25).step_by(steps).map(|log| 1 << log).collect()
    }
}

/// One iteration of one size: nanoseconds per operation, over all threads.
#[derive(serde::Serialize, serde::Deserialize, Clone)]
pub struct Sample {
    pub allocator: String,
    pub size: usize,
    pub threads: usize,
    pub filled: bool,
    pub round: u32,
    pub iteration: u32,
    pub allocations: usize,
    pub alloc_ns: f64,
    pub fill_ns: f64,
    pub free_ns: f64,
    pub resident_kib: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(name) = &options.common.child {
        return child::run(name, &options);
    }
    results::folder(&options.common.out)?;
    let samples = measure(&options)?;
    let summary = report::summarise(&samples);
    results::write_csv(&options.common.file("founding-samples.csv"), &samples)?;
    results::write_csv(&options.common.file("founding-summary.csv"), &summary)?;
    let table = report::table(&summary, &options.allocators)?;
    results::publish(&options.common.file("founding.txt"), &table)?;
    let plots = plot::draw(&options.common.out, &summary, &options.allocators)?;
    page::write(&options.common.out)?;
    let folder = options.common.out.display();
    println!("\nSamples, summary and {plots} plots are in {folder}; index.html shows them.");
    Ok(())
}

/// Runs the children in turns and collects what they print.
fn measure(options: &Options) -> Result<Vec<Sample>> {
    let sizes = list(&options.sizes());
    let allocations = options.allocations.to_string();
    let iterations = options.iterations.to_string();
    let rounds = if options.common.quick { 1 } else { options.rounds };
    let total =
        rounds as usize * options.threads.len() * options.filled.len() * options.allocators.len();
    let mut samples = Vec::new();
    let mut done = 0;
    for round in 0..rounds {
        // A process that filled its blocks keeps them resident: untouched ones get another.
        let settings = options.threads.iter().flat_map(|threads| {
            options.filled.iter().map(move |filled| (threads.to_string(), filled.to_string()))
        });
        for (threads, filled) in settings {
            for allocator in in_turn(&options.allocators, round as usize) {
                done += 1;
                eprintln!(
                    "[{done:2}/{total}] {allocator}, {threads} thread(s), filled: {filled}, round {}",
                    round + 1
                );
                let arguments = [
                    ["--child", allocator],
                    ["--threads", &threads],
                    ["--filled", &filled],
                    ["--allocations", &allocations],
                    ["--iterations", &iterations],
                    ["--sizes", &sizes],
                ];
                let of_child = child_samples::<Sample>(arguments.as_flattened())?;
                samples.extend(of_child.into_iter().map(|sample| Sample { round, ..sample }));
            }
        }
    }
    Ok(samples)
}
