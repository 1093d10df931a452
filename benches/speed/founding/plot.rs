//! The samples as plots: medians, with the quartiles as bars.

use crate::report::settings;
use crate::Sample;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;
use valloc_benches::chart::{self, Axis, Scale, Series};
use valloc_benches::{human_size, Middle};

const SIZE: Axis =
    Axis { name: "size", scale: Scale::Doublings, label: |size| human_size(size as usize) };
const THREADS: Axis = Axis::new("threads", Scale::Doublings);
const NANOSECONDS: Axis = Axis::new("ns per operation", Scale::Decades);

/// A kind of plot.
struct View {
    file: &'static str,
    title: &'static str,
    axis: Axis,
    /// Also shown for untouched blocks
    untouched: bool,
    of: fn(&Sample) -> f64,
}

const VIEWS: [View; 6] = [
    View {
        file: "1-mean",
        title: "Mean of allocation and free",
        axis: NANOSECONDS,
        untouched: true,
        of: Sample::mean_ns,
    },
    View {
        file: "2-allocation",
        title: "Allocation",
        axis: NANOSECONDS,
        untouched: false,
        of: |sample| sample.alloc_ns,
    },
    View { file: "3-free", title: "Free", axis: NANOSECONDS, untouched: false, of: |r| r.free_ns },
    View {
        file: "4-ratio",
        title: "Allocation / free",
        axis: Axis::new("ratio", Scale::Decades),
        untouched: false,
        of: Sample::ratio,
    },
    View {
        file: "5-whole",
        title: "Allocation, filling and free",
        axis: NANOSECONDS,
        untouched: false,
        of: |sample| sample.alloc_ns + sample.fill_ns + sample.free_ns,
    },
    View {
        file: "6-resident",
        title: "Resident memory",
        axis: Axis::new("MiB", Scale::Decades),
        untouched: true,
        of: |sample| sample.resident_kib as f64 / 1024.0,
    },
];

/// Sizes whose times are plotted over the number of threads.
const SCALED: [usize; 4] = [64, 1 << 10, 16 << 10, 1 << 20];

/// Draws everything.
pub fn draw(folder: &Path, samples: &[Sample], allocators: &[String]) -> Result<()> {
    let plot = |file: String, title: &str, x: &Axis, y: &Axis, series: &[Series]| {
        chart::lines(&folder.join(format!("founding-{file}.svg")), title, x, y, series)
    };
    let settings = settings(samples.iter().map(|sample| (sample.threads, sample.filled)));
    for (threads, filled) in settings {
        let here: Vec<&Sample> =
            samples.iter().filter(|s| s.threads == threads && s.filled == filled).collect();
        let filling = if filled { "filled" } else { "untouched" };
        for view in VIEWS.iter().filter(|view| filled || view.untouched) {
            let series = lines(&here, allocators, |s| s.size, view.of);
            let title = format!("{} ({threads} threads, {filling})", view.title);
            plot(format!("{}-{filling}-{threads}", view.file), &title, &SIZE, &view.axis, &series)?;
        }
        let series = convergence(&here);
        if filled && series.len() > 1 {
            let title = format!("Share of malloc's time, then and now ({threads} threads)");
            let axis = Axis::new("time / malloc's time", Scale::Decades);
            plot(format!("8-convergence-{threads}"), &title, &SIZE, &axis, &series)?;
        }
    }
    for size in SCALED {
        let here: Vec<&Sample> = samples.iter().filter(|s| s.size == size && s.filled).collect();
        let series = lines(&here, allocators, |s| s.threads, Sample::mean_ns);
        if series.iter().any(|one| one.points.len() > 1) {
            let title = format!("Mean of allocation and free by threads, {}", human_size(size));
            plot(format!("7-threads-{size:07}"), &title, &THREADS, &NANOSECONDS, &series)?;
        }
    }
    Ok(())
}

/// A line for each allocator: the median of `of` over the samples at each place.
fn lines(
    samples: &[&Sample],
    allocators: &[String],
    place: fn(&Sample) -> usize,
    of: fn(&Sample) -> f64,
) -> Vec<Series> {
    let line = |name: &String| {
        let mut places: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for sample in samples.iter().filter(|sample| sample.allocator == *name) {
            places.entry(place(sample)).or_default().push(of(sample));
        }
        let points = places.into_iter().map(|(at, values)| (at as f64, Middle::of(values)));
        Series { name: name.clone(), points: points.collect() }
    };
    allocators.iter().map(line).collect()
}

/// The times of the founding system and of valloc as shares of malloc's median. The founding system
/// came close to malloc above 100 KB, where both wait for the kernel.
fn convergence(samples: &[&Sample]) -> Vec<Series> {
    let names = ["malloc", "original", "valloc"].map(str::to_owned);
    let mut series = lines(samples, &names, |s| s.size, Sample::mean_ns);
    let malloc: BTreeMap<usize, f64> =
        series[0].points.iter().map(|(size, time)| (*size as usize, time.median)).collect();
    for one in &mut series {
        let share =
            |&(size, time): &(f64, Middle)| Some((size, time.per(*malloc.get(&(size as usize))?)));
        one.points = one.points.iter().filter_map(share).collect();
    }
    series.retain(|one| !one.points.is_empty());
    series
}
