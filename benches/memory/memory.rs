//! Memory over time: resident memory and live bytes while a heap grows, shrinks, idles, is purged
//! and grows again. docs/benchmarks.md describes the method.

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::Parser;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};
use valloc_benches::chart::{self, Axis, Scale, Series};
use valloc_benches::child::{self, in_turn};
use valloc_benches::comparison::Summary;
use valloc_benches::results::{self, count, within, Common, Part};
use valloc_benches::{
    in_order, known, layout, median, with_contender, Contender, Middle, Random, Visitor,
};

/// Plots resident memory against live bytes over time.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Allocators to compare
    #[arg(long, value_delimiter = ',', default_values_t = CONTENDERS.map(str::to_owned),
          value_parser = PossibleValuesParser::new(known()))]
    allocators: Vec<String>,
    /// Processes per allocator and scenario
    #[arg(long, default_value_t = 3, value_parser = count())]
    rounds: usize,
    /// Live memory at its height, in MiB
    #[arg(long, default_value_t = 256, value_parser = within(1..=1 << 20))]
    mib: usize,
    /// Scenarios
    #[arg(long, value_delimiter = ',', default_values_t = SCENARIOS.map(|s| s.0.to_owned()),
          value_parser = PossibleValuesParser::new(SCENARIOS.map(|s| s.0)))]
    scenarios: Vec<String>,
}

const CONTENDERS: [&str; 5] = ["malloc", "valloc", "mimalloc", "jemalloc", "snmalloc"];

/// Sizes of blocks, drawn between the bounds so that each doubling is equally likely.
#[derive(Clone, Copy)]
struct Mix(usize, usize);

const SMALL: Mix = Mix(16, 256);
const MIXED: Mix = Mix(16, 16 << 10);
const LARGE: Mix = Mix(4 << 10, 1 << 20);
const ALL: Mix = Mix(16, 1 << 20);

type Scenario = fn(&mut dyn Heap, usize);

const SCENARIOS: [(&str, &str, Scenario); 8] = [
    ("fragments-small", "95 % freed at random, 16 to 256 B", |heap, mib| {
        fragments(heap, mib, SMALL);
    }),
    ("fragments-mixed", "95 % freed at random, 16 B to 16 KiB", |heap, mib| {
        fragments(heap, mib, MIXED);
    }),
    ("fragments-large", "95 % freed at random, 4 KiB to 1 MiB", |heap, mib| {
        fragments(heap, mib, LARGE);
    }),
    ("asleep", "95 % freed at random, 16 B to 16 KiB, then nothing; background threads", asleep),
    ("idle-mixed", "95 % freed at random, 16 B to 16 KiB, then nothing", |heap, mib| {
        idle(heap, mib, MIXED);
    }),
    ("idle-all", "95 % freed at random, 16 B to 1 MiB, then nothing", |heap, mib| {
        idle(heap, mib, ALL);
    }),
    ("waves", "growth and shrinking, sizes that change", waves),
    ("server", "an hour of a server, steady live size", server),
];

/// A moment of one process.
#[derive(Serialize, Deserialize, Clone)]
struct Sample {
    scenario: String,
    allocator: String,
    round: usize,
    phase: String,
    /// Position in the scenario: the same for every allocator
    step: usize,
    /// Processor seconds since the start
    seconds: f64,
    live_mib: f64,
    /// Resident memory above that of the process before its first allocation
    resident_mib: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(name) = &options.common.child {
        return with_contender(name, Child(&options))
            .context("there is no allocator of this name")?;
    }
    let report = || report(&options.common);
    results::run(&options.common, "memory", |part| measure(&options, part), report)
}

/// Writes all reports.
fn report(common: &Common) -> Result<()> {
    let samples: Vec<Sample> = results::read_csv(&common.file("memory-samples.csv"))?;
    let allocators = in_order(samples.iter().map(|sample| sample.allocator.as_str()));
    let rows = middle(&samples);
    results::write_csv(&common.file("memory-summary.csv"), &summarise(&samples))?;
    results::publish(&common.file("memory.txt"), &table(&rows, &samples, &allocators)?)?;
    draw(common, &rows, &allocators)
}

fn measure(options: &Options, mut part: Part) -> Result<()> {
    let (rounds, mib) = match options.common.quick {
        true => (1, options.mib.div_ceil(4)),
        false => (options.rounds, options.mib),
    };
    let mib = mib.to_string();
    for round in 0..rounds {
        for (turn, scenario) in options.scenarios.iter().enumerate() {
            for allocator in in_turn(&options.allocators, turn + round) {
                eprintln!("[{}/{rounds}] memory, {scenario}, {allocator}", round + 1);
                let arguments = ["--child", allocator, "--scenarios", scenario, "--mib", &mib];
                let mut samples = child::samples::<Sample>(&arguments);
                samples.iter_mut().flatten().for_each(|sample| sample.round = round);
                part.keep(&format!("{scenario} on {allocator}"), samples)?;
            }
        }
    }
    part.end()
}

// ---- One allocator ----

/// A phase of a scenario. Every call that changes the heap is a step.
trait Heap {
    /// Allocates blocks of a mix until so many bytes are live.
    fn fill(&mut self, phase: &str, bytes: usize, mix: Mix);
    /// Frees random blocks until at most so many bytes are live.
    fn shrink(&mut self, phase: &str, bytes: usize);
    /// Allocates a block of the mix so many times, and frees random ones to keep the live bytes
    /// steady.
    fn replace(&mut self, phase: &str, times: usize, mix: Mix);
    /// Sleeps, with or without a few operations every ten milliseconds.
    fn idle(&mut self, phase: &str, time: Duration, ticks: bool);
    fn purge(&mut self, phase: &str);
    fn start_background(&mut self);
}

fn fragments(heap: &mut dyn Heap, mib: usize, mix: Mix) {
    let full = mib << 20;
    heap.fill("fill", full, mix);
    heap.shrink("free 95 %", full / 20);
    heap.idle("idle", Duration::from_millis(1500), false);
    heap.idle("tick", Duration::from_millis(1500), true);
    heap.purge("purge");
    heap.fill("grow", full, mix);
    heap.shrink("free all", 0);
    heap.idle("end", Duration::from_millis(1500), true);
}

/// With a background thread, if the allocator has one.
fn asleep(heap: &mut dyn Heap, mib: usize) {
    heap.start_background();
    heap.fill("fill", mib << 20, MIXED);
    heap.shrink("free 95 %", (mib << 20) / 20);
    heap.idle("idle", Duration::from_millis(1500), false);
}

/// Without background threads: nothing but the frees can return memory.
fn idle(heap: &mut dyn Heap, mib: usize, mix: Mix) {
    heap.fill("fill", mib << 20, mix);
    heap.shrink("0 s", (mib << 20) / 20);
    heap.idle("2 s", Duration::from_secs(2), false);
    heap.idle("10 s", Duration::from_secs(8), false);
}

fn waves(heap: &mut dyn Heap, mib: usize) {
    for mix in [SMALL, LARGE, MIXED, Mix(256, 2 << 10), LARGE, SMALL] {
        heap.fill("up", mib << 20, mix);
        heap.shrink("down", mib << 20 >> 3);
    }
    heap.idle("end", Duration::from_millis(1500), true);
}

/// 3600 seconds of 10,000 operations each. The requested sizes change from minute to minute.
fn server(heap: &mut dyn Heap, mib: usize) {
    let live = mib << 20 >> 1;
    heap.fill("start", live, MIXED);
    for minute in 0..60 {
        let mix = [SMALL, MIXED, Mix(64, 1 << 10), Mix(16, 4 << 10), MIXED][minute % 5];
        heap.replace("serve", 600_000 * mib / 256, mix);
        heap.shrink("serve", live);
        heap.fill("serve", live, mix);
    }
}

struct Subject<'a, C: Contender> {
    contender: &'static C,
    live: Vec<(*mut u8, u32)>,
    bytes: usize,
    random: Random,
    base_kib: f64,
    step: usize,
    scenario: &'a str,
    csv: csv::Writer<std::io::StdoutLock<'static>>,
}

struct Child<'a>(&'a Options);

impl Visitor for Child<'_> {
    type Out = Result<()>;

    fn visit<C: Contender>(self) -> Result<()> {
        let name = &self.0.scenarios[0];
        let scenario = SCENARIOS.iter().find(|scenario| scenario.0 == name);
        let (name, _, run) = scenario.context("there is no scenario of this name")?;
        let mut subject = Subject {
            contender: C::get(),
            // Room for every block that may be live, resident from the start.
            live: vec![(std::ptr::null_mut(), 1); (self.0.mib << 20) / 64],
            bytes: 0,
            random: Random(5),
            base_kib: 0.0,
            step: 0,
            scenario: name,
            csv: csv::Writer::from_writer(std::io::stdout().lock()),
        };
        subject.live.clear();
        subject.base_kib = resident_kib();
        run(&mut subject, self.0.mib);
        Ok(())
    }
}

fn resident_kib() -> f64 {
    valloc_benches::status_kib("VmRSS:") as f64
}

fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

impl<C: Contender> Subject<'_, C> {
    fn allocate(&mut self, mix: Mix) {
        let doublings = (mix.1 as f64 / mix.0 as f64).log2();
        let part = (self.random.draw() >> 11) as f64 / (1u64 << 53) as f64;
        let size = (mix.0 as f64 * (part * doublings).exp2()) as usize;
        // SAFETY: the size is not zero; the writes lie inside.
        let block = unsafe {
            let block = self.contender.alloc(layout(size));
            assert!(!block.is_null(), "{} has no {size} bytes", C::NAME);
            block.write_bytes(1, size);
            black_box(block)
        };
        self.live.push((block, size as u32));
        self.bytes += size;
    }

    fn free(&mut self) {
        let place = self.random.below(self.live.len());
        let (block, size) = self.live.swap_remove(place);
        self.bytes -= size as usize;
        // SAFETY: it was live, and is not in the list any more.
        unsafe { self.contender.dealloc(block, layout(size as usize)) };
    }

    fn sample(&mut self, phase: &str) {
        let sample = Sample {
            scenario: self.scenario.to_owned(),
            allocator: C::NAME.to_owned(),
            round: 0,
            phase: phase.to_owned(),
            step: self.step,
            seconds: processor_seconds(),
            live_mib: self.bytes as f64 / (1 << 20) as f64,
            resident_mib: (resident_kib() - self.base_kib) / 1024.0,
        };
        self.step += 1;
        self.csv.serialize(sample).expect("stdout is a pipe to the parent");
    }
}

/// Samples of a phase.
const SAMPLES: usize = 20;

impl<C: Contender> Heap for Subject<'_, C> {
    fn fill(&mut self, phase: &str, bytes: usize, mix: Mix) {
        let start = self.bytes;
        for part in 1..=SAMPLES {
            let goal = start + bytes.saturating_sub(start) * part / SAMPLES;
            while self.bytes < goal {
                self.allocate(mix);
            }
            self.sample(phase);
        }
    }

    fn shrink(&mut self, phase: &str, bytes: usize) {
        let start = self.bytes;
        for part in 1..=SAMPLES {
            let goal = start - start.saturating_sub(bytes) * part / SAMPLES;
            while self.bytes > goal {
                self.free();
            }
            self.sample(phase);
        }
    }

    fn replace(&mut self, phase: &str, times: usize, mix: Mix) {
        let steady = self.bytes;
        for _ in 0..times {
            self.allocate(mix);
            while self.bytes > steady {
                self.free();
            }
        }
        self.sample(phase);
    }

    fn idle(&mut self, phase: &str, time: Duration, ticks: bool) {
        let start = Instant::now();
        let mut sampled = 0;
        while start.elapsed() < time {
            std::thread::sleep(Duration::from_millis(10));
            for _ in 0..if ticks { 20 } else { 0 } {
                self.allocate(Mix(16, 1 << 10));
                // What came last goes first: the live blocks stay.
                let (block, size) = self.live.pop().expect("one was just pushed");
                self.bytes -= size as usize;
                // SAFETY: it is in the list no more.
                unsafe { self.contender.dealloc(block, layout(size as usize)) };
            }
            let due = SAMPLES as f64 * start.elapsed().as_secs_f64() / time.as_secs_f64();
            while sampled < SAMPLES && (sampled as f64) < due.floor() {
                self.sample(phase);
                sampled += 1;
            }
        }
        for _ in sampled..SAMPLES {
            self.sample(phase);
        }
    }

    fn purge(&mut self, phase: &str) {
        C::purge();
        self.sample(phase);
    }

    fn start_background(&mut self) {
        C::start_background();
    }
}

// ---- Results ----

/// Medians over the rounds, by scenario, allocator and step.
fn middle(samples: &[Sample]) -> Vec<Sample> {
    let mut groups: BTreeMap<_, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        let key = (&sample.scenario, &sample.allocator, sample.step);
        groups.entry(key).or_default().push(sample);
    }
    let row = |group: Vec<&Sample>| {
        let of = |figure: fn(&Sample) -> f64| {
            median(&mut group.iter().map(|sample| figure(sample)).collect::<Vec<_>>())
        };
        Sample {
            seconds: of(|s| s.seconds),
            live_mib: of(|s| s.live_mib),
            resident_mib: of(|s| s.resident_mib),
            ..group[0].clone()
        }
    };
    groups.into_values().map(row).collect()
}

/// The processes of a scenario on an allocator.
fn rounds<'a>(samples: &'a [Sample], scenario: &str, allocator: &str) -> Vec<Vec<&'a Sample>> {
    let mut rounds: BTreeMap<usize, Vec<&Sample>> = BTreeMap::new();
    for sample in samples.iter().filter(|s| s.scenario == scenario && s.allocator == allocator) {
        rounds.entry(sample.round).or_default().push(sample);
    }
    rounds.into_values().collect()
}

fn peak(round: &[&Sample]) -> f64 {
    round.iter().map(|sample| sample.resident_mib).fold(0.0, f64::max)
}

fn mean(round: &[&Sample], of: fn(&Sample) -> f64) -> f64 {
    round.iter().map(|sample| of(sample)).sum::<f64>() / round.len() as f64
}

/// Mean and peak of resident memory, mean of the live bytes, time, and resident memory at the last
/// end of every phase.
fn summarise(samples: &[Sample]) -> Vec<Summary> {
    let mut all = Vec::new();
    for (scenario, _, _) in &SCENARIOS {
        for allocator in in_order(samples.iter().map(|sample| sample.allocator.as_str())) {
            let rounds = rounds(samples, scenario, &allocator);
            let Some(first) = rounds.first() else { continue };
            let mut add = |figure: &str, of: &dyn Fn(&[&Sample]) -> f64| {
                let values: Vec<f64> = rounds.iter().map(|round| of(round)).collect();
                all.push(Summary::of(scenario, &allocator, figure, &values));
            };
            add("mean_mib", &|round| mean(round, |sample| sample.resident_mib));
            add("peak_mib", &peak);
            add("live_mib", &|round| mean(round, |sample| sample.live_mib));
            add("cpu_s", &|round| round.last().map_or(f64::NAN, |sample| sample.seconds));
            let mut phases: Vec<&str> = first.iter().map(|sample| &sample.phase[..]).collect();
            phases.dedup();
            phases.sort_unstable();
            phases.dedup();
            for phase in phases {
                let last = |round: &[&Sample]| {
                    let end = round.iter().rfind(|sample| sample.phase == phase);
                    end.map_or(f64::NAN, |sample| sample.resident_mib)
                };
                add(&format!("after {phase}"), &last);
            }
        }
    }
    all
}

/// For every scenario: resident memory at the end of its phases, the mean, the time.
fn table(rows: &[Sample], samples: &[Sample], allocators: &[String]) -> Result<String> {
    let mut out = String::new();
    for (name, title, _) in &SCENARIOS {
        let mine: Vec<_> = rows.iter().filter(|row| row.scenario == *name).collect();
        let of = |allocator: &str| -> Vec<&Sample> {
            mine.iter().filter(|row| row.allocator == allocator).copied().collect()
        };
        let Some(model) = allocators.iter().map(|name| of(name)).find(|r| !r.is_empty()) else {
            continue;
        };
        // The last step of each stretch of one phase.
        let ends: Vec<usize> = (0..model.len())
            .filter(|&at| model.get(at + 1).is_none_or(|next| next.phase != model[at].phase))
            .collect();
        writeln!(out, "\n{name}: {title}; MiB resident at the end of each phase")?;
        write!(out, "{:>10}", "")?;
        ends.iter().try_for_each(|&at| write!(out, " {:>9}", model[at].phase))?;
        writeln!(out, " {:>9} {:>9} {:>9} {:>8}", "mean", "peak", "cpu s", "spread")?;
        write!(out, "{:>10}", "live")?;
        ends.iter().try_for_each(|&at| write!(out, " {:>9.1}", model[at].live_mib))?;
        writeln!(out)?;
        for allocator in allocators {
            let own = of(allocator);
            if own.len() != model.len() {
                continue;
            }
            write!(out, "{allocator:>10}")?;
            ends.iter().try_for_each(|&at| write!(out, " {:>9.1}", own[at].resident_mib))?;
            let (mean, peak) = (mean(&own, |row| row.resident_mib), peak(&own));
            let seconds = own.last().map_or(0.0, |row| row.seconds);
            let peaks = rounds(samples, name, allocator);
            let spread = Middle::of(peaks.iter().map(|round| self::peak(round))).spread();
            writeln!(out, " {mean:>9.1} {peak:>9.1} {seconds:>9.2} {spread:>6.1} %")?;
        }
    }
    writeln!(
        out,
        "\nspread: of the rounds' peaks, half the distance between quartiles, in percent"
    )?;
    writeln!(out, "of the median")?;
    Ok(out)
}

fn draw(common: &Common, rows: &[Sample], allocators: &[String]) -> Result<()> {
    for (name, title, _) in &SCENARIOS {
        let mine: Vec<_> = rows.iter().filter(|row| row.scenario == *name).collect();
        let along = |place: fn(&Sample) -> f64| -> Vec<Series> {
            let series = |allocator: &String| {
                let own = mine.iter().filter(|row| row.allocator == *allocator);
                let points = own.map(|row| (place(row), Middle::alone(row.resident_mib)));
                Series { name: allocator.clone(), points: points.collect() }
            };
            allocators.iter().map(series).collect()
        };
        let mut lines = along(|row| row.step as f64);
        let Some(first) = allocators.first().filter(|_| !mine.is_empty()) else { continue };
        let live = mine.iter().filter(|row| row.allocator == *first);
        let points = live.map(|row| (row.step as f64, Middle::alone(row.live_mib))).collect();
        lines.insert(0, Series { name: "live".to_owned(), points });
        let path = common.file(&format!("memory-{name}.svg"));
        let mib = Axis::new("MiB", Scale::Linear);
        chart::lines(&path, title, &Axis::new("progress", Scale::Linear), &mib, &lines)?;
        // What idles takes no time.
        if ["fragments", "idle", "asleep"].iter().any(|kind| name.starts_with(kind)) {
            continue;
        }
        let path = common.file(&format!("memory-{name}-time.svg"));
        let x = Axis::new("processor time, seconds", Scale::Linear);
        chart::lines(&path, &format!("{title}, by time"), &x, &mib, &along(|row| row.seconds))?;
    }
    Ok(())
}
