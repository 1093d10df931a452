//! Comparisons with one line of CSV for every run. They produce medians and quartiles by subject
//! and allocator, multiples of the best, and a table and a plot for each figure.

use crate::chart::{self, Axis, Scale};
use crate::results::{self, Common};
use crate::{geometric_mean, Middle};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt::Write;

/// A comparison. Each line of `{name}-samples.csv` has a subject, an allocator and the figures.
pub struct Comparison {
    pub name: &'static str,
    /// The column of the subject
    pub subject: &'static str,
    pub figures: &'static [Figure],
}

pub struct Figure {
    pub column: &'static str,
    pub title: &'static str,
    pub best: Best,
    pub plot: Plot,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Best {
    Least,
    Most,
}

/// The values in a plot.
#[derive(Clone, Copy, PartialEq)]
pub enum Plot {
    /// Multiples of the best allocator's figure
    Shares,
    Values,
}

const fn figure(column: &'static str, title: &'static str) -> Figure {
    Figure { column, title, best: Best::Least, plot: Plot::Shares }
}

const PROGRAMS: &[Figure] = &[
    figure("cpu_s", "Processor time, user and system, seconds"),
    figure("peak_mib", "Peak resident memory, MiB"),
];

pub const ALL: [Comparison; 6] = [
    Comparison { name: "programs-rust", subject: "program", figures: PROGRAMS },
    Comparison { name: "programs-c", subject: "program", figures: PROGRAMS },
    Comparison {
        name: "threads",
        subject: "pattern",
        figures: &[
            Figure { best: Best::Most, ..figure("mops", "Millions of operations per second") },
            figure("peak_mib", "Peak resident memory, MiB"),
        ],
    },
    Comparison {
        name: "micro",
        subject: "pattern",
        figures: &[
            figure("total_ns", "Allocation and free, ns"),
            figure("peak_mib", "Peak resident memory, MiB"),
        ],
    },
    Comparison {
        name: "startup",
        subject: "program",
        figures: &[
            figure("cpu_us", "Processor time, microseconds"),
            figure("peak_kib", "Peak resident memory, KiB"),
        ],
    },
    Comparison {
        name: "instructions",
        subject: "operation",
        figures: &[Figure {
            plot: Plot::Values,
            ..figure("instructions", "Instructions of a call, outside the kernel")
        }],
    },
];

/// A figure of an allocator on a subject: median and quartiles over the runs.
#[derive(Serialize, Deserialize, Clone)]
pub struct Summary {
    pub subject: String,
    pub allocator: String,
    pub figure: String,
    pub runs: usize,
    pub median: f64,
    pub lower_quartile: f64,
    pub upper_quartile: f64,
}

impl Summary {
    pub fn of(subject: &str, allocator: &str, figure: &str, values: &[f64]) -> Self {
        let middle = Middle::of(values.iter().copied());
        Self {
            subject: subject.to_owned(),
            allocator: allocator.to_owned(),
            figure: figure.to_owned(),
            runs: values.len(),
            median: middle.median,
            lower_quartile: middle.low,
            upper_quartile: middle.high,
        }
    }

    fn middle(&self) -> Middle {
        Middle { low: self.lower_quartile, median: self.median, high: self.upper_quartile }
    }
}

/// For every subject: each allocator's value.
type Rows = Vec<(String, Vec<(String, Middle)>)>;

impl Comparison {
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|comparison| comparison.name == name)
    }

    pub fn samples(&self, common: &Common) -> std::path::PathBuf {
        common.file(&format!("{}-samples.csv", self.name))
    }

    /// Writes the summary, the table and the plots of the samples in the folder.
    pub fn report(&self, common: &Common) -> Result<()> {
        let samples: Vec<HashMap<String, String>> = results::read_csv(&self.samples(common))?;
        let mut summary = Vec::new();
        let mut text = String::new();
        for figure in self.figures {
            let rows = self.summarise(figure, &samples)?;
            write_table(&mut text, figure, &rows)?;
            let (name, values) = match figure.plot {
                Plot::Shares => ("times the best", figure.shares(&rows)),
                Plot::Values => (figure.title, values(&rows)),
            };
            let path = common.file(&format!("{}-{}.svg", self.name, figure.column));
            chart::dots(&path, figure.title, &Axis::new(name, Scale::Decades), &values)?;
            summary.extend(rows);
        }
        writeln!(text, "\nspread: half the distance between quartiles, in percent of the median;")?;
        writeln!(text, "the largest of the row")?;
        results::write_csv(&common.file(&format!("{}-summary.csv", self.name)), &summary)?;
        results::publish(&common.file(&format!("{}.txt", self.name)), &text)
    }

    /// One row for every subject and allocator, in the order of their first samples.
    fn summarise(
        &self,
        figure: &Figure,
        samples: &[HashMap<String, String>],
    ) -> Result<Vec<Summary>> {
        let mut order = Vec::new();
        let mut groups: HashMap<_, Vec<f64>> = HashMap::new();
        for sample in samples {
            let column = |name: &str| {
                sample
                    .get(name)
                    .with_context(|| format!("the samples of {} have no column {name}", self.name))
            };
            let key = (column(self.subject)?, column("allocator")?);
            let group = groups.entry(key).or_insert_with(|| {
                order.push(key);
                Vec::new()
            });
            group.push(column(figure.column)?.parse()?);
        }
        let first = |subject: &String| samples.iter().position(|s| s[self.subject] == *subject);
        order.sort_by_key(|(subject, _)| first(subject));
        let row = |key: (&String, &String)| Summary::of(key.0, key.1, figure.column, &groups[&key]);
        Ok(order.into_iter().map(row).collect())
    }
}

fn values(summary: &[Summary]) -> Rows {
    let mut rows: Rows = Vec::new();
    for row in summary {
        let dot = (row.allocator.clone(), row.middle());
        match rows.last_mut().filter(|last| last.0 == row.subject) {
            Some(last) => last.1.push(dot),
            None => rows.push((row.subject.clone(), vec![dot])),
        }
    }
    rows
}

impl Figure {
    /// For every subject, each allocator's figure as a multiple of the best median; 1 is the best.
    fn shares(&self, summary: &[Summary]) -> Rows {
        let mut rows = values(summary);
        for (_, dots) in &mut rows {
            let medians = dots.iter().map(|dot| dot.1.median);
            match self.best {
                Best::Least => {
                    let best = medians.fold(f64::INFINITY, f64::min);
                    dots.iter_mut().for_each(|dot| dot.1 = dot.1.per(best));
                }
                Best::Most => {
                    let best = medians.fold(0.0, f64::max);
                    for (_, Middle { low, median, high }) in dots {
                        (*low, *median, *high) = (best / *high, best / *median, best / *low);
                    }
                }
            }
        }
        rows
    }
}

/// Measured for comparison, but not allocators: a program alone, and an empty library.
const ALONE: [&str; 2] = ["nothing", "empty"];

/// Writes medians, multiples of the best, spread, geometric means, and where valloc is more than 5
/// % behind.
fn write_table(out: &mut String, figure: &Figure, summary: &[Summary]) -> Result<()> {
    let mut names: Vec<&str> = Vec::new();
    for row in summary {
        if !names.contains(&row.allocator.as_str()) {
            names.push(&row.allocator);
        }
    }
    let rows = figure.shares(summary);
    let width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0).max(4);
    writeln!(out, "\n{}; times the best; median over the rounds", figure.title)?;
    write!(out, "{:>width$}", "")?;
    names.iter().try_for_each(|name| write!(out, " {name:>16}"))?;
    writeln!(out, " {:>8}", "spread")?;
    let mut behind = Vec::new();
    for (subject, shares) in &rows {
        write!(out, "{subject:>width$}")?;
        let mut spread = 0.0f64;
        let compared = shares.iter().filter(|share| !ALONE.contains(&share.0.as_str()));
        let best = compared.map(|share| share.1.median).fold(f64::INFINITY, f64::min);
        for name in &names {
            let row = summary.iter().find(|row| row.subject == *subject && row.allocator == *name);
            let share = shares.iter().find(|share| share.0 == *name);
            match (row, share) {
                (Some(row), Some((_, Middle { median: share, .. }))) => {
                    write!(out, " {:>9.2} {share:>6.2}", row.median)?;
                    spread = spread.max(row.middle().spread());
                    if *name == "valloc" && *share > 1.05 * best {
                        behind.push(format!("{subject} {:.2}", share / best));
                    }
                }
                _ => write!(out, " {:>16}", "-")?,
            }
        }
        writeln!(out, " {spread:>6.1} %")?;
    }
    write!(out, "{:>width$}", "mean")?;
    // Of what all of them did: who failed at what is dear does not win by it.
    let complete: Vec<_> = rows.iter().filter(|row| row.1.len() == names.len()).collect();
    for name in &names {
        let mine = complete.iter().filter_map(|row| row.1.iter().find(|dot| dot.0 == *name));
        let mean = geometric_mean(mine.map(|dot| dot.1.median));
        write!(out, " {:>9} {mean:>6.3}", "")?;
    }
    write!(out, "   geometric, of the shares")?;
    match complete.len() {
        all if all == rows.len() => writeln!(out)?,
        some => writeln!(out, " where all came to an end: {some} of {}", rows.len())?,
    }
    let behind = if behind.is_empty() { "nothing".to_owned() } else { behind.join(", ") };
    writeln!(out, "valloc is more than 5 % behind the best at: {behind}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_relative_to_the_best_of_each_subject() -> Result<()> {
        let sample = |subject: &str, allocator: &str, seconds: &str| {
            let columns = [("program", subject), ("allocator", allocator), ("cpu_s", seconds)];
            columns.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        };
        let samples = [
            sample("a", "valloc", "1.0"),
            sample("b", "valloc", "4.0"),
            sample("a", "two", "2.0"),
            sample("b", "two", "2.0"),
            sample("a", "valloc", "3.0"),
            sample("a", "valloc", "5.0"),
        ];
        let least = &PROGRAMS[0];
        let summary = ALL[0].summarise(least, &samples)?;
        let order: Vec<_> = summary.iter().map(|row| (&row.subject[..], row.runs)).collect();
        assert_eq!(order, [("a", 3), ("a", 1), ("b", 1), ("b", 1)]);
        let dots =
            |ours, two| vec![("valloc".to_owned(), ours), ("two".to_owned(), Middle::alone(two))];
        let expected = |a, b| [("a".to_owned(), a), ("b".to_owned(), b)];
        let ours = Middle { low: 1.0, median: 1.5, high: 2.0 };
        let alone = Middle::alone;
        assert_eq!(least.shares(&summary), expected(dots(ours, 1.0), dots(alone(2.0), 1.0)));
        let most = Figure { best: Best::Most, ..figure("cpu_s", "") };
        let ours = Middle { low: 0.75, median: 1.0, high: 1.5 };
        assert_eq!(most.shares(&summary), expected(dots(ours, 1.5), dots(alone(1.0), 2.0)));
        let mut text = String::new();
        write_table(&mut text, least, &summary)?;
        assert!(text.contains("1.732"), "the mean of 1.5 and 2: {text}");
        assert!(text.contains("33.3 %"), "quartiles 2 and 4 round 3: {text}");
        assert!(text.contains("behind the best at: a 1.50, b 2.00"), "{text}");

        // A program alone is no rival.
        let mut alone = summary.clone();
        alone.iter_mut().filter(|row| row.allocator == "two").for_each(|row| {
            row.allocator = "nothing".to_owned();
        });
        let mut text = String::new();
        write_table(&mut text, least, &alone)?;
        assert!(text.contains("behind the best at: nothing"), "{text}");

        // Who did not come to an end is not in the mean.
        let mut text = String::new();
        write_table(&mut text, least, &summary[..3])?;
        assert!(text.contains("1.500") && text.contains("came to an end: 1 of 2"), "{text}");
        Ok(())
    }
}
