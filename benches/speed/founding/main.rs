//! The founding benchmark: valloc against malloc, calloc and the peers, by size and by threads.
//!
//! Every thread allocates blocks, fills them by memset or leaves them untouched, and frees them in
//! the same order. The phases are timed separately. Each allocator runs in its own process, so
//! resident memory is its own. The processes take turns, so a disturbance affects all of them.
//! docs/benchmarks.md describes the method.

mod child;
mod plot;
mod report;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::Parser;
use valloc_benches::child::{in_turn, list, samples as child_samples};
use valloc_benches::results::{count, within, Common, Part};
use valloc_benches::{in_order, known, results};

/// Compares allocators by size and by threads.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Allocators to compare; `original` is the founding system
    #[arg(long, value_delimiter = ',', default_values_t = known().map(str::to_owned),
          value_parser = PossibleValuesParser::new(known()))]
    allocators: Vec<String>,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8],
          value_parser = within(1..=1024))]
    threads: Vec<usize>,
    /// Processes per allocator and number of threads
    #[arg(long, default_value_t = 2, value_parser = count())]
    rounds: usize,
    /// Allocations per thread and iteration (fewer of sizes that would fill more than 128 MiB)
    #[arg(long, default_value_t = 1000, value_parser = count())]
    allocations: usize,
    /// Iterations per process
    #[arg(long, default_value_t = 5, value_parser = count())]
    iterations: usize,
    /// Whether blocks are filled by memset
    #[arg(long, value_delimiter = ',', action = clap::ArgAction::Set, num_args = 1,
          default_values_t = [true, false])]
    filled: Vec<bool>,
    /// Sizes in bytes instead of the powers of two from 8 B to 32 MiB
    #[arg(long, value_delimiter = ',', value_parser = within(1..=1 << 30))]
    sizes: Vec<usize>,
}

impl Options {
    fn sizes(&self) -> Vec<usize> {
        if !self.sizes.is_empty() {
            return self.sizes.clone();
        }
        let (first, step) = if self.common.quick { (4, 2) } else { (3, 1) };
        (first..=25).step_by(step).map(|log| 1 << log).collect()
    }
}

/// One iteration of one size: nanoseconds per operation, over all threads.
#[derive(serde::Serialize, serde::Deserialize, Clone)]
pub struct Sample {
    pub allocator: String,
    pub size: usize,
    pub threads: usize,
    pub filled: bool,
    pub round: usize,
    pub iteration: usize,
    pub allocations: usize,
    pub alloc_ns: f64,
    pub fill_ns: f64,
    pub free_ns: f64,
    pub resident_kib: u64,
}

impl Sample {
    /// As defined by the founding document
    pub fn mean_ns(&self) -> f64 {
        (self.alloc_ns + self.free_ns) / 2.0
    }

    pub fn ratio(&self) -> f64 {
        self.alloc_ns / self.free_ns
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(name) = &options.common.child {
        return child::run(name, &options);
    }
    let report = || report(&options.common);
    results::run(&options.common, "founding", |part| measure(&options, part), report)
}

/// Writes all reports.
fn report(common: &Common) -> Result<()> {
    let samples: Vec<Sample> = results::read_csv(&common.file("founding-samples.csv"))?;
    let summary = report::summarise(&samples);
    let allocators = in_order(samples.iter().map(|sample| sample.allocator.as_str()));
    results::write_csv(&common.file("founding-summary.csv"), &summary)?;
    results::publish(&common.file("founding.txt"), &report::table(&summary, &allocators)?)?;
    plot::draw(&common.out, &samples, &allocators)
}

/// Runs the children in turns and saves their samples.
fn measure(options: &Options, mut part: Part) -> Result<()> {
    let sizes = list(&options.sizes());
    let allocations = options.allocations.to_string();
    let (rounds, iterations) = match options.common.quick {
        true => (1, options.iterations.min(3)),
        false => (options.rounds, options.iterations),
    };
    let iterations = iterations.to_string();
    let total = rounds * options.threads.len() * options.filled.len() * options.allocators.len();
    let mut done = 0;
    for round in 0..rounds {
        // A process that filled its blocks keeps them resident: untouched ones get another.
        let settings = options.threads.iter().flat_map(|threads| {
            options.filled.iter().map(move |filled| (threads.to_string(), filled.to_string()))
        });
        for (turn, (threads, filled)) in settings.enumerate() {
            for allocator in in_turn(&options.allocators, turn + round) {
                done += 1;
                let what = format!("{allocator}, {threads} thread(s), filled: {filled}");
                eprintln!("[{done:2}/{total}] {what}, round {}", round + 1);
                let arguments = [
                    ["--child", allocator],
                    ["--threads", &threads],
                    ["--filled", &filled],
                    ["--allocations", &allocations],
                    ["--iterations", &iterations],
                    ["--sizes", &sizes],
                ];
                let mut samples = child_samples::<Sample>(arguments.as_flattened());
                samples.iter_mut().flatten().for_each(|sample| sample.round = round);
                part.keep(&what, samples)?;
            }
        }
    }
    part.end()
}
