//! The summary as SVG plots that can be read on light and on dark pages.

use crate::report::{settings, Row};
use anyhow::Result;
use plotters::coord::ranged1d::{KeyPointHint, Ranged};
use plotters::prelude::*;
use std::path::Path;
use valloc_benches::human_size;

const INK: RGBColor = RGBColor(128, 128, 128);
/// Okabe and Ito's colours, apart for colour-blind eyes, legible on white and on black.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
];

/// What a plot shows of a row.
struct View {
    file: &'static str,
    title: &'static str,
    of: fn(&Row) -> f64,
}

const VIEWS: [View; 4] = [
    View { file: "mean", title: "Mean of allocation and free, ns", of: |row| row.mean_ns },
    View { file: "ratio", title: "Allocation / free", of: |row| row.ratio },
    View {
        file: "whole",
        title: "Allocation, filling and free, ns",
        of: |row| row.alloc_ns + row.fill_ns + row.free_ns,
    },
    View {
        file: "resident",
        title: "Resident memory, MiB",
        of: |row| row.resident_kib as f64 / 1024.0,
    },
];

/// Draws every view of every setting; returns how many plots there are.
pub fn draw(folder: &Path, rows: &[Row], allocators: &[String]) -> Result<usize> {
    let mut count = 0;
    for (threads, filled) in settings(rows) {
        let rows: Vec<_> =
            rows.iter().filter(|row| row.threads == threads && row.filled == filled).collect();
        for view in &VIEWS {
            let filling = if filled { "filled" } else { "untouched" };
            let file = format!("{}-{threads}-threads-{filling}.svg", view.file);
            let title = format!("{} ({threads} threads, {filling})", view.title);
            draw_one(&folder.join(file), &title, view, &rows, allocators)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Sizes on a logarithmic axis with a label at every fourth power of two.
struct Sizes(usize, usize);

impl Ranged for Sizes {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = usize;

    fn map(&self, value: &usize, (low, high): (i32, i32)) -> i32 {
        let log = |size: usize| (size as f64).log2();
        let part = (log(*value) - log(self.0)) / (log(self.1) - log(self.0));
        low + (part * f64::from(high - low)) as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<usize> {
        (3..=25).step_by(2).map(|log| 1 << log).collect()
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.0..self.1
    }
}

impl plotters::coord::ranged1d::ValueFormatter<usize> for Sizes {
    fn format_ext(&self, value: &usize) -> String {
        human_size(*value)
    }
}

fn draw_one(
    path: &Path,
    title: &str,
    view: &View,
    rows: &[&Row],
    allocators: &[String],
) -> Result<()> {
    let values = || rows.iter().map(|row| (view.of)(row)).filter(|value| *value > 0.0);
    let (low, high) = values().fold((f64::INFINITY, 0.0_f64), |(l, h), v| (l.min(v), h.max(v)));
    let smallest = rows.iter().map(|row| row.size).min().unwrap_or(8);
    let largest = rows.iter().map(|row| row.size).max().unwrap_or(16);
    let area = SVGBackend::new(path, (900, 520)).into_drawing_area();
    let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, text(20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(Sizes(smallest, largest), (low * 0.8..high * 1.25).log_scale())?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(INK.mix(0.35))
        .light_line_style(TRANSPARENT)
        .label_style(text(14))
        .y_label_formatter(&|value| {
            if *value < 10.0 {
                format!("{value:.1}")
            } else {
                format!("{value:.0}")
            }
        })
        .draw()?;
    for (index, name) in allocators.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let style = colour.stroke_width(if name == "valloc" { 4 } else { 2 });
        let points = rows
            .iter()
            .filter(|row| row.allocator == *name && (view.of)(row) > 0.0)
            .map(|row| (row.size, (view.of)(row)));
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(text(14))
        .border_style(INK.mix(0.35))
        .draw()?;
    area.present()?;
    Ok(())
}
