//! The summary as plots.

use crate::report::{settings, Row};
use anyhow::Result;
use std::path::Path;
use valloc_benches::chart::{self, Axis, Scale, Series};
use valloc_benches::human_size;

const SIZE: Axis =
    Axis { name: "size", scale: Scale::Doublings, label: |size| human_size(size as usize) };
const THREADS: Axis = Axis::new("threads", Scale::Doublings);
const NANOSECONDS: Axis = Axis::new("ns per operation", Scale::Decades);

/// What a plot shows of a row.
struct View {
    file: &'static str,
    title: &'static str,
    axis: Axis,
    /// Shown of untouched blocks, too
    untouched: bool,
    of: fn(&Row) -> f64,
}

const VIEWS: [View; 6] = [
    View {
        file: "1-mean",
        title: "Mean of allocation and free",
        axis: NANOSECONDS,
        untouched: true,
        of: |row| row.mean_ns,
    },
    View {
        file: "2-allocation",
        title: "Allocation",
        axis: NANOSECONDS,
        untouched: false,
        of: |row| row.alloc_ns,
    },
    View { file: "3-free", title: "Free", axis: NANOSECONDS, untouched: false, of: |r| r.free_ns },
    View {
        file: "4-ratio",
        title: "Allocation / free",
        axis: Axis::new("ratio", Scale::Decades),
        untouched: false,
        of: |row| row.ratio,
    },
    View {
        file: "5-whole",
        title: "Allocation, filling and free",
        axis: NANOSECONDS,
        untouched: false,
        of: |row| row.alloc_ns + row.fill_ns + row.free_ns,
    },
    View {
        file: "6-resident",
        title: "Resident memory",
        axis: Axis::new("MiB", Scale::Decades),
        untouched: true,
        of: |row| row.resident_kib as f64 / 1024.0,
    },
];

/// Sizes whose times are shown against the number of threads.
const SCALED: [usize; 4] = [64, 1 << 10, 16 << 10, 1 << 20];

/// Draws everything; returns how many plots there are.
pub fn draw(folder: &Path, rows: &[Row], allocators: &[String]) -> Result<usize> {
    let mut count = 0;
    let mut plot = |file: String, title: &str, x: &Axis, y: &Axis, series: &[Series]| {
        count += 1;
        chart::lines(&folder.join(format!("founding-{file}.svg")), title, x, y, series)
    };
    // One line per allocator of what `point` makes of its rows.
    let lines = |point: &dyn Fn(&Row) -> Option<(f64, f64)>| -> Vec<Series> {
        let of = |name: &String| {
            rows.iter().filter(|row| row.allocator == *name).filter_map(point).collect()
        };
        allocators.iter().map(|name| Series { name: name.clone(), points: of(name) }).collect()
    };
    for view in &VIEWS {
        for (threads, filled) in settings(rows) {
            if !filled && !view.untouched {
                continue;
            }
            let filling = if filled { "filled" } else { "untouched" };
            let series = lines(&|row| {
                let here = row.threads == threads && row.filled == filled;
                here.then(|| (row.size as f64, (view.of)(row)))
            });
            let title = format!("{} ({threads} threads, {filling})", view.title);
            plot(format!("{}-{filling}-{threads}", view.file), &title, &SIZE, &view.axis, &series)?;
        }
    }
    for size in SCALED {
        let series = lines(&|row| {
            (row.size == size && row.filled).then_some((row.threads as f64, row.mean_ns))
        });
        if series.iter().any(|one| one.points.len() > 1) {
            let title = format!("Mean of allocation and free by threads, {}", human_size(size));
            plot(format!("7-threads-{size:07}"), &title, &THREADS, &NANOSECONDS, &series)?;
        }
    }
    for (threads, filled) in settings(rows).into_iter().filter(|setting| setting.1) {
        let series = convergence(rows, threads, filled);
        if series.len() > 1 {
            let title = format!("Share of malloc's time, then and now ({threads} threads)");
            let axis = Axis::new("time / malloc's time", Scale::Decades);
            plot(format!("8-convergence-{threads}"), &title, &SIZE, &axis, &series)?;
        }
    }
    Ok(count)
}

/// The times of the founding system and of valloc as shares of malloc's: the first came close to
/// malloc above 100 KB, where both wait for the kernel.
fn convergence(rows: &[Row], threads: usize, filled: bool) -> Vec<Series> {
    let here: Vec<&Row> =
        rows.iter().filter(|row| row.threads == threads && row.filled == filled).collect();
    let malloc = |size| here.iter().find(|row| row.allocator == "malloc" && row.size == size);
    let share = |row: &&Row| Some((row.size as f64, row.mean_ns / malloc(row.size)?.mean_ns));
    ["malloc", "original", "valloc"]
        .into_iter()
        .map(|name| Series {
            name: name.to_owned(),
            points: here
                .iter()
                .copied()
                .filter(|r| r.allocator == name)
                .filter_map(|r| share(&r))
                .collect(),
        })
        .filter(|series| !series.points.is_empty())
        .collect()
}
