//! Regularity: the time of single operations by size, up to the slowest ones.
//!
//! A thread replaces random blocks of one size among its live ones. Every allocation (with the
//! first write to the block) and every free is timed alone. docs/benchmarks.md describes the
//! method.

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::Parser;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};
use valloc_benches::chart::{self, Axis, Scale, Series};
use valloc_benches::child::{self, in_turn};
use valloc_benches::results::{self, count, within, Common, Part};
use valloc_benches::{
    human_size, in_order, known, layout, median, with_contender, Contender, Middle, Random, Visitor,
};

/// Measures the latencies of single operations.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Allocators to compare
    #[arg(long, value_delimiter = ',', default_values_t = CONTENDERS.map(str::to_owned),
          value_parser = PossibleValuesParser::new(known()))]
    allocators: Vec<String>,
    /// Processes per allocator
    #[arg(long, default_value_t = 3, value_parser = count())]
    rounds: usize,
    /// Operations timed per size
    #[arg(long, default_value_t = 100_000, value_parser = within(1..=1 << 26))]
    operations: usize,
    /// Sizes in bytes
    #[arg(long, value_delimiter = ',', default_values_t = [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20],
          value_parser = within(1..=LIVE_BYTES as u64))]
    sizes: Vec<usize>,
}

impl Options {
    fn sizes(&self) -> Vec<usize> {
        self.sizes.iter().copied().step_by(if self.common.quick { 2 } else { 1 }).collect()
    }
}

const CONTENDERS: [&str; 5] = ["malloc", "valloc", "mimalloc", "jemalloc", "snmalloc"];

/// The most live blocks of a size, and their most bytes.
const LIVE: usize = 1000;
const LIVE_BYTES: usize = 64 << 20;

/// The time limit of a size in one process. Slow allocators get fewer operations.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many operations in a million take longer than each column.
const TAILS: [usize; 5] = [500_000, 10_000, 1_000, 100, 0];

/// Latencies of one size in one process, in nanoseconds, without the clock's own cost.
#[derive(Serialize, Deserialize, Clone)]
struct Sample {
    allocator: String,
    size: usize,
    operation: String,
    round: usize,
    operations: usize,
    /// The clock's own cost, and its resolution
    clock_ns: f64,
    step_ns: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    p9999: f64,
    max: f64,
}

impl Sample {
    fn columns(&self) -> [f64; TAILS.len()] {
        [self.p50, self.p99, self.p999, self.p9999, self.max]
    }
}

/// A bin of the latencies of one size in one process.
#[derive(Serialize, Deserialize, Clone)]
struct Bin {
    allocator: String,
    size: usize,
    operation: String,
    round: usize,
    /// The lowest latency in it, without the clock's own cost
    low_ns: u32,
    count: usize,
}

/// Bins are 1 ns wide up to 64 ns, then a 32nd of a doubling: 3 % or less.
fn bin(nanoseconds: u32) -> u32 {
    let shift = nanoseconds.max(1).ilog2().saturating_sub(5);
    nanoseconds >> shift << shift
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(name) = &options.common.child {
        return with_contender(name, Child(&options))
            .context("there is no allocator of this name")?;
    }
    let report = || report(&options.common);
    results::run(&options.common, "latency", |part| measure(&options, part), report)
}

/// Writes all reports.
fn report(common: &Common) -> Result<()> {
    let samples: Vec<Sample> = results::read_csv(&common.file("latency-samples.csv"))?;
    let allocators = in_order(samples.iter().map(|sample| sample.allocator.as_str()));
    let summary = summarise(&samples);
    results::write_csv(&common.file("latency-summary.csv"), &summary)?;
    results::publish(&common.file("latency.txt"), &table(&summary, &samples, &allocators)?)?;
    draw(common, &samples, &allocators)?;
    let histogram = common.file("latency-histogram.csv");
    // Earlier versions left none.
    match histogram.exists() {
        true => draw_distributions(common, &results::read_csv(&histogram)?, &allocators),
        false => Ok(()),
    }
}

fn measure(options: &Options, mut part: Part) -> Result<()> {
    let rounds = if options.common.quick { 1 } else { options.rounds };
    let operations = options.operations.div_ceil(if options.common.quick { 4 } else { 1 });
    let (operations, sizes) = (operations.to_string(), child::list(&options.sizes()));
    for round in 0..rounds {
        for allocator in in_turn(&options.allocators, round) {
            eprintln!("[{}/{rounds}] latency, {allocator}", round + 1);
            let arguments = ["--child", allocator, "--sizes", &sizes, "--operations", &operations];
            let (mut samples, mut bins) = match child::two_tables::<Sample, Bin>(&arguments) {
                Ok((samples, bins)) => (Ok(samples), bins),
                Err(error) => (Err(error), Vec::new()),
            };
            samples.iter_mut().flatten().for_each(|sample| sample.round = round);
            bins.iter_mut().for_each(|bin| bin.round = round);
            part.keep(allocator, samples)?;
            part.write("histogram.csv", &bins)?;
        }
    }
    part.end()
}

struct Child<'a>(&'a Options);

impl Visitor for Child<'_> {
    type Out = Result<()>;

    fn visit<C: Contender>(self) -> Result<()> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        let mut bins = csv::Writer::from_writer(Vec::new());
        let mut empty: Vec<u32> = (0..100_000).map(|_| time(|| ()).0).collect();
        empty.sort_unstable();
        let clock = empty[empty.len() / 2];
        let step = clock_step(&empty);
        for &size in &self.0.sizes {
            let [allocations, frees] = replace::<C>(size, self.0.operations);
            for (operation, mut times) in [("allocation", allocations), ("free", frees)] {
                times.sort_unstable();
                let at = |tail: usize| {
                    let beyond = (times.len() * tail).div_ceil(1_000_000).max(1);
                    f64::from(times[times.len() - beyond].saturating_sub(clock))
                };
                let [p50, p99, p999, p9999, max] = TAILS.map(at);
                let in_bin = |nanoseconds: &u32| bin(nanoseconds.saturating_sub(clock));
                for equal in times.chunk_by(|a, b| in_bin(a) == in_bin(b)) {
                    bins.serialize(Bin {
                        allocator: C::NAME.to_owned(),
                        size,
                        operation: operation.to_owned(),
                        round: 0,
                        low_ns: in_bin(&equal[0]),
                        count: equal.len(),
                    })?;
                }
                csv.serialize(Sample {
                    allocator: C::NAME.to_owned(),
                    size,
                    operation: operation.to_owned(),
                    round: 0,
                    operations: times.len(),
                    clock_ns: f64::from(clock),
                    step_ns: f64::from(step),
                    p50,
                    p99,
                    p999,
                    p9999,
                    max,
                })?;
            }
        }
        print!(
            "{}\n{}",
            String::from_utf8(csv.into_inner()?)?,
            String::from_utf8(bins.into_inner()?)?
        );
        Ok(())
    }
}

/// The clock's resolution, from sorted times. A clock of 10.4 ns shows 20 and 21, 31, 41 and 42:
/// neighbours are the same time, rounded, unless there are three in a row. Times that occur once or
/// twice are ignored. 0 if all are the same.
fn clock_step(times: &[u32]) -> u32 {
    let often = times.chunk_by(|a, b| a == b).filter(|same| same.len() > 2);
    let values: Vec<u32> = often.map(|same| same[0]).collect();
    let groups: Vec<&[u32]> = values.chunk_by(|a, b| b - a == 1).collect();
    if groups.iter().any(|group| group.len() > 2) {
        return 1;
    }
    groups.windows(2).map(|pair| pair[1][0] - pair[0][0]).min().unwrap_or(0)
}

/// The time of a call in nanoseconds, with the clock's own cost.
#[inline(always)]
fn time<T>(call: impl FnOnce() -> T) -> (u32, T) {
    let start = Instant::now();
    let result = call();
    (start.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32, result)
}

fn replace<C: Contender>(size: usize, operations: usize) -> [Vec<u32>; 2] {
    let layout = layout(size);
    let allocate = || {
        // SAFETY: the size is not zero; the write lies inside.
        unsafe {
            let block = black_box(C::get().alloc(layout));
            block.write(1);
            block
        }
    };
    // SAFETY: what stands in its place is live.
    let free = |block: *mut u8| unsafe { C::get().dealloc(black_box(block), layout) };
    let mut live: Vec<_> = (0..LIVE.min(LIVE_BYTES / size)).map(|_| allocate()).collect();
    let mut random = Random(11);
    let mut times = [Vec::with_capacity(operations), Vec::with_capacity(operations)];
    let start = Instant::now();
    while times[0].len() < operations && start.elapsed() < PATIENCE {
        for _ in 0..(operations / 100).max(1) {
            let place = random.below(live.len());
            times[1].push(time(|| free(live[place])).0);
            let (nanoseconds, block) = time(allocate);
            times[0].push(nanoseconds);
            live[place] = block;
        }
    }
    live.into_iter().for_each(free);
    times
}

/// Medians over the rounds.
fn summarise(samples: &[Sample]) -> Vec<Sample> {
    let mut groups: BTreeMap<_, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        let key = (&sample.operation, sample.size, &sample.allocator);
        groups.entry(key).or_default().push(sample);
    }
    let middle = |group: Vec<&Sample>| {
        let of = |column: usize| {
            median(&mut group.iter().map(|sample| sample.columns()[column]).collect::<Vec<_>>())
        };
        Sample {
            operations: group.iter().map(|sample| sample.operations).sum(),
            p50: of(0),
            p99: of(1),
            p999: of(2),
            p9999: of(3),
            max: of(4),
            ..group[0].clone()
        }
    };
    groups.into_values().map(middle).collect()
}

fn table(rows: &[Sample], samples: &[Sample], allocators: &[String]) -> Result<String> {
    let sizes: BTreeSet<usize> = rows.iter().map(|row| row.size).collect();
    let mut out = String::new();
    for operation in ["allocation", "free"] {
        writeln!(out, "\nns of a single {operation}: p50, p99, p99.9, p99.99, slowest")?;
        write!(out, "{:>8}", "size")?;
        allocators.iter().try_for_each(|name| write!(out, " {name:>32}"))?;
        writeln!(out, " {:>8}", "spread")?;
        for &size in &sizes {
            write!(out, "{:>8}", human_size(size))?;
            for name in allocators {
                let row = rows.iter().find(|row| {
                    row.operation == operation && row.size == size && row.allocator == *name
                });
                let cell = row.map_or("-".to_owned(), |row| {
                    row.columns().map(|ns| format!("{ns:.0}")).join(" ")
                });
                write!(out, " {cell:>32}")?;
            }
            let of = |name: &String| {
                let mine = samples.iter().filter(|sample| {
                    sample.operation == operation
                        && sample.size == size
                        && sample.allocator == *name
                });
                Middle::of(mine.map(|sample| sample.p99)).spread()
            };
            let widest = allocators.iter().map(of).fold(0.0, f64::max);
            writeln!(out, " {widest:>6.1} %")?;
        }
    }
    writeln!(
        out,
        "\nspread: of p99 over the rounds, half the distance between quartiles, in percent"
    )?;
    writeln!(out, "of the median; the largest of the row")?;
    let over = |of: fn(&Sample) -> f64| median(&mut samples.iter().map(of).collect::<Vec<_>>());
    let (clock, step) = (over(|s| s.clock_ns), over(|s| s.step_ns));
    writeln!(out, "the clock: {clock:.0} ns are taken off; it advances by {step:.0} ns at a time")?;
    Ok(out)
}

/// By size, for allocations and frees: the median, and each tail.
fn draw(common: &Common, samples: &[Sample], allocators: &[String]) -> Result<()> {
    let size =
        Axis { name: "size", scale: Scale::Doublings, label: |size| human_size(size as usize) };
    let nanoseconds = Axis::new("ns", Scale::Decades);
    let names = ["p50", "p99", "p99.9", "p99.99", "slowest"];
    for operation in ["allocation", "free"] {
        for (column, name) in names.iter().enumerate() {
            let series = |allocator: &String| {
                let mut sizes: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
                let mine = |s: &&Sample| s.operation == operation && s.allocator == *allocator;
                for sample in samples.iter().filter(mine) {
                    // The axis has no zero.
                    let value = sample.columns()[column].max(1.0);
                    sizes.entry(sample.size).or_default().push(value);
                }
                let points = sizes.into_iter().map(|(at, values)| (at as f64, Middle::of(values)));
                Series { name: allocator.clone(), points: points.collect() }
            };
            let lines: Vec<_> = allocators.iter().map(series).collect();
            let title = format!("Single {operation}, {name}");
            let path = format!("latency-{operation}-{}.svg", column + 1);
            chart::lines(&common.file(&path), &title, &size, &nanoseconds, &lines)?;
        }
    }
    Ok(())
}

/// How many sizes have their distribution drawn: the smallest, the largest, and some in between.
const DISTRIBUTIONS: usize = 4;

/// For some sizes, allocations and frees: the share of operations that take at least so long, over
/// all rounds.
fn draw_distributions(common: &Common, bins: &[Bin], allocators: &[String]) -> Result<()> {
    let nanoseconds = Axis::new("ns, at least", Scale::Decades);
    let share = Axis { name: "share of operations", scale: Scale::Decades, label: percent };
    let sizes: Vec<usize> =
        bins.iter().map(|bin| bin.size).collect::<BTreeSet<_>>().into_iter().collect();
    let drawn = sizes.len().min(DISTRIBUTIONS);
    for place in 0..drawn {
        let size = sizes[place * (sizes.len() - 1) / (drawn - 1).max(1)];
        for operation in ["allocation", "free"] {
            let line = |allocator: &String| {
                let mine = bins.iter().filter(|bin| {
                    bin.size == size && bin.operation == operation && bin.allocator == *allocator
                });
                Series { name: allocator.clone(), points: at_least(mine) }
            };
            let lines: Vec<_> = allocators.iter().map(line).collect();
            let title =
                format!("Single {operation} of {}: how many take so long", human_size(size));
            let path = format!("latency-distribution-{operation}-{size:07}.svg");
            chart::lines(&common.file(&path), &title, &nanoseconds, &share, &lines)?;
        }
    }
    Ok(())
}

/// For the lowest latency of every bin, the share of all operations that take at least as long.
fn at_least<'a>(bins: impl Iterator<Item = &'a Bin>) -> Vec<(f64, Middle)> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for bin in bins {
        *counts.entry(bin.low_ns).or_default() += bin.count;
    }
    let all: usize = counts.values().sum();
    let mut left = all;
    let point = |(low, count): (&u32, &usize)| {
        let share = left as f64 / all as f64;
        left -= count;
        // The axis has no zero.
        (f64::from((*low).max(1)), Middle::alone(share))
    };
    counts.iter().map(point).collect()
}

/// 1 as 100 %, 0.0001 as 0.01 %.
fn percent(share: f64) -> String {
    let digits = (-(share * 100.0 * 1.001).log10().floor()).max(0.0) as usize;
    format!("{:.digits$} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_exact_up_to_64_ns_and_narrow_above() {
        for nanoseconds in (0..100_000).chain([u32::MAX / 2, u32::MAX - 1, u32::MAX]) {
            let low = bin(nanoseconds);
            assert_eq!(bin(low), low);
            assert!(low <= nanoseconds);
            assert!(f64::from(nanoseconds - low) < 0.032 * f64::from(low).max(1.0));
            assert!(nanoseconds >= 64 || low == nanoseconds);
        }
    }

    #[test]
    fn clock_steps_are_not_rounding() {
        let times =
            |values: &[u32]| values.iter().flat_map(|&value| [value; 3]).collect::<Vec<_>>();
        assert_eq!(clock_step(&times(&[20, 21, 31, 41, 42, 70])), 10);
        assert_eq!(clock_step(&times(&[20, 21, 22, 40])), 1);
        assert_eq!(clock_step(&times(&[20, 40])), 20);
        assert_eq!(clock_step(&[20, 20, 20, 33]), 0);
    }

    #[test]
    fn shares_are_of_all_rounds() {
        let bin = |round, low_ns, count| Bin {
            allocator: "valloc".to_owned(),
            size: 64,
            operation: "free".to_owned(),
            round,
            low_ns,
            count,
        };
        let bins = [bin(0, 0, 5), bin(0, 10, 3), bin(1, 0, 1), bin(1, 200, 1)];
        let expected = [(1.0, 1.0), (10.0, 0.4), (200.0, 0.1)];
        assert_eq!(at_least(bins.iter()), expected.map(|(x, y)| (x, Middle::alone(y))));
        assert_eq!(
            [1.0, 0.1, 0.05, 1e-3, 1e-6].map(percent).join(" "),
            "100 % 10 % 5 % 0.1 % 0.0001 %"
        );
    }
}
