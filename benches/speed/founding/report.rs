//! Medians of the samples, as CSV and as tables.

use crate::Sample;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{Result, Write};
use valloc_benches::{geometric_mean, human_size, median, Middle};

/// The median of one allocator's samples of one size.
#[derive(Serialize, Clone)]
pub struct Row {
    pub allocator: String,
    pub size: usize,
    pub threads: usize,
    pub filled: bool,
    pub samples: usize,
    pub alloc_ns: f64,
    pub fill_ns: f64,
    pub free_ns: f64,
    /// (allocation + free) / 2, as defined by the founding document
    pub mean_ns: f64,
    pub mean_ns_lower_quartile: f64,
    pub mean_ns_upper_quartile: f64,
    /// allocation / free, of an iteration
    pub ratio: f64,
    pub resident_kib: u64,
}

impl Row {
    /// Of the mean: half the distance between the quartiles, in percent of the median.
    fn spread(&self) -> f64 {
        let distance = self.mean_ns_upper_quartile - self.mean_ns_lower_quartile;
        distance / 2.0 / self.mean_ns * 100.0
    }
}

pub fn summarise(samples: &[Sample]) -> Vec<Row> {
    let mut groups: BTreeMap<_, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        let key = (sample.threads, !sample.filled, sample.size, &sample.allocator);
        groups.entry(key).or_default().push(sample);
    }
    let row = |group: Vec<&Sample>| {
        let all = |of: fn(&Sample) -> f64| -> Vec<f64> {
            group.iter().map(|sample| of(sample)).collect()
        };
        let over = |of| median(&mut all(of));
        let mean = Middle::of(group.iter().map(|sample| sample.mean_ns()));
        Row {
            allocator: group[0].allocator.clone(),
            size: group[0].size,
            threads: group[0].threads,
            filled: group[0].filled,
            samples: group.len(),
            alloc_ns: over(|s| s.alloc_ns),
            fill_ns: over(|s| s.fill_ns),
            free_ns: over(|s| s.free_ns),
            mean_ns: mean.median,
            mean_ns_lower_quartile: mean.low,
            mean_ns_upper_quartile: mean.high,
            ratio: over(Sample::ratio),
            resident_kib: over(|s| s.resident_kib as f64) as u64,
        }
    };
    groups.into_values().map(row).collect()
}

/// The rows of one setting: by size, then in the order of the allocators.
fn by_size(rows: &[Row], threads: usize, filled: bool) -> BTreeMap<usize, Vec<&Row>> {
    let mut sizes: BTreeMap<usize, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|r| r.threads == threads && r.filled == filled) {
        sizes.entry(row.size).or_default().push(row);
    }
    sizes
}

/// Numbers of threads, and whether blocks are filled, in the order of tables.
pub fn settings(all: impl Iterator<Item = (usize, bool)>) -> Vec<(usize, bool)> {
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|&(threads, filled)| (threads, !filled));
    all.dedup();
    all
}

fn describe(threads: usize, filled: bool) -> String {
    let filled = if filled { "filled by memset" } else { "untouched" };
    format!("{threads} thread(s), {filled}")
}

/// The table of every setting, then valloc against each of the others.
pub fn table(rows: &[Row], allocators: &[String]) -> std::result::Result<String, std::fmt::Error> {
    let mut out = String::new();
    for (threads, filled) in settings(rows.iter().map(|row| (row.threads, row.filled))) {
        let setting = describe(threads, filled);
        write!(out, "\n{setting}: mean of allocation and free, ns (* fastest)\n{:>8}", "size")?;
        allocators.iter().try_for_each(|name| write!(out, " {name:>11}"))?;
        writeln!(out, " {:>8} {:>13} {:>9}", "spread", "alloc + free", "ratio")?;
        for (size, rows) in by_size(rows, threads, filled) {
            write!(out, "{:>8}", human_size(size))?;
            let fastest = rows.iter().map(|row| row.mean_ns).fold(f64::INFINITY, f64::min);
            for name in allocators {
                match rows.iter().find(|row| row.allocator == *name) {
                    Some(row) => {
                        let mark = if row.mean_ns == fastest { "*" } else { "" };
                        write!(out, " {:>11}", format!("{mark}{:.1}", row.mean_ns))?;
                    }
                    None => write!(out, " {:>11}", "-")?,
                }
            }
            let spread = rows.iter().map(|row| row.spread()).fold(0.0, f64::max);
            write!(out, " {spread:>6.1} %")?;
            if let Some(row) = rows.iter().find(|row| row.allocator == "valloc") {
                let both = format!("{:.1} + {:.1}", row.alloc_ns, row.free_ns);
                write!(out, " {both:>13} {:>9.2}", row.ratio)?;
            }
            writeln!(out)?;
        }
    }
    writeln!(
        out,
        "\nspread: half the distance between quartiles, in percent of the median; the largest of \
         the row.\nalloc + free and their ratio: valloc's."
    )?;
    ratios(&mut out, rows, allocators)?;
    Ok(out)
}

/// valloc against each of the others: time, time with the filling, resident memory.
fn ratios(out: &mut String, rows: &[Row], allocators: &[String]) -> Result {
    writeln!(
        out,
        "\nvalloc's share of the others' (geometric mean over the sizes; below 1 is better)"
    )?;
    writeln!(
        out,
        "{:>34} {:>10} {:>10} {:>16} {:>10}  valloc is slower at",
        "", "against", "mean time", "with the filling", "resident"
    )?;
    let (mut first, mut places) = (0, 0);
    for (threads, filled) in settings(rows.iter().map(|row| (row.threads, row.filled))) {
        let sizes = by_size(rows, threads, filled);
        for rows in sizes.values() {
            let Some(ours) = rows.iter().find(|row| row.allocator == "valloc") else { continue };
            places += 1;
            first += u32::from(rows.iter().all(|row| row.mean_ns >= ours.mean_ns));
        }
        for name in allocators.iter().filter(|name| *name != "valloc") {
            let pairs: Vec<_> = sizes
                .values()
                .filter_map(|rows| {
                    let of = |name: &str| rows.iter().find(|row| row.allocator == name).copied();
                    Some((of("valloc")?, of(name)?))
                })
                .collect();
            if pairs.is_empty() {
                continue;
            }
            let whole = |row: &Row| row.alloc_ns + row.fill_ns + row.free_ns;
            let slower: Vec<_> = pairs
                .iter()
                .filter(|(ours, theirs)| ours.mean_ns > theirs.mean_ns)
                .map(|(ours, _)| human_size(ours.size))
                .collect();
            writeln!(
                out,
                "{:>34} {name:>10} {:>10.2} {:>16.2} {:>10.2}  {}",
                describe(threads, filled),
                geometric_mean(pairs.iter().map(|(a, b)| a.mean_ns / b.mean_ns)),
                geometric_mean(pairs.iter().map(|(a, b)| whole(a) / whole(b))),
                geometric_mean(
                    pairs.iter().map(|(a, b)| a.resident_kib as f64 / b.resident_kib as f64)
                ),
                if slower.is_empty() { "no size".to_owned() } else { slower.join(", ") },
            )?;
        }
    }
    writeln!(out, "\nvalloc is the fastest at {first} of {places} settings.")
}
