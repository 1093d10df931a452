//! Line and dot charts as SVG, readable on light and on dark pages. A point is a median, its bar
//! reaches from the lower to the upper quartile. A single measurement has no bar.

use crate::Middle;
use anyhow::Result;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::ops::Range;
use std::path::Path;

const INK: RGBColor = RGBColor(128, 128, 128);
const WIDTH: u32 = 900;
const LEGEND: u32 = 130;

/// An allocator's colour, the same in every chart. Okabe and Ito's palette suits colour-blind
/// people.
fn colour(name: &str, index: usize) -> RGBColor {
    const OTHERS: [RGBColor; 3] =
        [RGBColor(90, 120, 90), RGBColor(150, 90, 200), RGBColor(170, 140, 110)];
    match name {
        "malloc" | "glibc" | "system" => RGBColor(0, 114, 178),
        "calloc" => RGBColor(86, 180, 233),
        "valloc" => RGBColor(213, 94, 0),
        "mimalloc" => RGBColor(0, 158, 115),
        "jemalloc" => RGBColor(204, 121, 167),
        "snmalloc" => RGBColor(230, 159, 0),
        "tcmalloc" => RGBColor(190, 170, 40),
        "live" | "original" | "nothing" => INK,
        _ => OTHERS[index % OTHERS.len()],
    }
}

/// How an axis is divided.
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    Linear,
    /// By powers of ten
    Decades,
    /// By powers of two
    Doublings,
}

pub struct Axis {
    pub name: &'static str,
    pub scale: Scale,
    pub label: fn(f64) -> String,
}

impl Axis {
    pub const fn new(name: &'static str, scale: Scale) -> Self {
        Self { name, scale, label: number }
    }
}

/// 0.25, 1.5, 3, 20, 20k, 3M.
pub fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", number(v / 1e6)),
        v if v >= 1e4 => format!("{}k", number(v / 1e3)),
        v if v == v.round() => format!("{v:.0}"),
        v if v < 1.0 => format!("{v:.2}"),
        v => format!("{v:.1}"),
    }
}

pub struct Series {
    pub name: String,
    pub points: Vec<(f64, Middle)>,
}

/// An axis over a range of values.
struct Ruler<'a> {
    low: f64,
    high: f64,
    axis: &'a Axis,
}

impl<'a> Ruler<'a> {
    fn over(axis: &'a Axis, values: impl Iterator<Item = f64>, room: bool) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite() && (*value > 0.0 || axis.scale == Scale::Linear))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low < high { (low, high) } else { (1.0, 2.0) };
        let (low, high) = match (axis.scale, room) {
            (Scale::Linear, _) => (low.min(0.0), high * 1.04),
            (_, true) => (low * 0.8, high * 1.25),
            (_, false) => (low, high),
        };
        Self { low, high, axis }
    }

    fn place(&self, value: f64) -> f64 {
        match self.axis.scale {
            Scale::Linear => value,
            _ => value.max(self.low).ln(),
        }
    }
}

impl Ranged for Ruler<'_> {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (low, high): (i32, i32)) -> i32 {
        let (start, end) = (self.place(self.low), self.place(self.high));
        let part = (self.place(*value) - start) / (end - start);
        low + (part * f64::from(high - low)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let wanted = hint.max_num_points().clamp(2, 12) as f64;
        let inside = |value: &f64| (self.low..=self.high).contains(value);
        match self.axis.scale {
            Scale::Linear => {
                let raw = (self.high - self.low) / wanted.min(8.0);
                let power = 10f64.powf(raw.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0]
                    .into_iter()
                    .map(|factor| factor * power)
                    .find(|step| *step >= raw)
                    .unwrap_or(raw);
                let first = (self.low / step).ceil() as i64;
                (first..).map(|i| i as f64 * step).take_while(|v| *v <= self.high).collect()
            }
            Scale::Doublings => {
                let (first, last) = (self.low.log2().ceil() as i32, self.high.log2() as i32);
                let step = (f64::from(last - first + 1) / wanted).ceil().max(1.0) as usize;
                (first..=last).step_by(step).map(|log| 2f64.powi(log)).collect()
            }
            Scale::Decades => {
                let few = (self.high / self.low).log10() < 3.0;
                let factors: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
                (self.low.log10().floor() as i32..=self.high.log10() as i32)
                    .flat_map(|log| factors.iter().map(move |factor| factor * 10f64.powi(log)))
                    .filter(inside)
                    .collect()
            }
        }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Ruler<'_> {
    fn format_ext(&self, value: &f64) -> String {
        (self.axis.label)(*value)
    }
}

/// The data of a dot chart: subjects, with a value for each of some names.
pub type Rows = [(String, Vec<(String, Middle)>)];

/// The axis of the subjects, the first at the top. Subject i is at i + 0.5.
struct Subjects<'a>(&'a Rows);

impl Ranged for Subjects<'_> {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (low, high): (i32, i32)) -> i32 {
        high - (value / self.0.len() as f64 * f64::from(high - low)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        (0..self.0.len()).map(|row| row as f64 + 0.5).collect()
    }

    fn range(&self) -> Range<f64> {
        0.0..self.0.len() as f64
    }
}

impl ValueFormatter<f64> for Subjects<'_> {
    fn format_ext(&self, value: &f64) -> String {
        self.0[*value as usize].0.clone()
    }
}

fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Draws axes, their names and grid lines.
fn mesh<X, Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    x: &str,
    y: &str,
) -> Result<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(INK.mix(0.35))
        .light_line_style(TRANSPARENT)
        .label_style(text(14))
        .axis_desc_style(text(14))
        .x_desc(x)
        .y_desc(y)
        .draw()?;
    Ok(())
}

/// Draws a line for each series. valloc's is thick.
pub fn lines(path: &Path, title: &str, x: &Axis, y: &Axis, series: &[Series]) -> Result<()> {
    let points = || series.iter().flat_map(|one| &one.points);
    let across = Ruler::over(x, points().map(|point| point.0), false);
    let up = Ruler::over(y, points().flat_map(|point| [point.1.low, point.1.high]), true);
    let area = SVGBackend::new(path, (WIDTH, 480)).into_drawing_area();
    let (left, right) = area.split_horizontally(WIDTH - LEGEND);
    let mut chart = ChartBuilder::on(&left)
        .caption(title, text(20))
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(across, up)?;
    mesh(&mut chart, x.name, y.name)?;
    for (index, one) in series.iter().enumerate() {
        let width = if one.name == "valloc" { 4 } else { 2 };
        let style = colour(&one.name, index).stroke_width(width);
        let medians = one.points.iter().map(|(x, value)| (*x, value.median));
        chart.draw_series(LineSeries::new(medians, style))?;
        let style = colour(&one.name, index).stroke_width(2);
        let bars = one.points.iter().filter(|point| point.1.low < point.1.high);
        chart.draw_series(
            bars.clone().map(|(x, bar)| PathElement::new([(*x, bar.low), (*x, bar.high)], style)),
        )?;
        let ends = bars.flat_map(|(x, bar)| [(*x, bar.low), (*x, bar.high)]);
        chart.draw_series(
            ends.map(|end| EmptyElement::at(end) + PathElement::new([(-4, 0), (4, 0)], style)),
        )?;
    }
    legend(&right, series.iter().map(|one| one.name.as_str()))?;
    area.present()?;
    Ok(())
}

fn legend<'a>(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    names: impl Iterator<Item = &'a str>,
) -> Result<()> {
    for (index, name) in names.enumerate() {
        let y = 60 + 24 * index as i32;
        let width = if name == "valloc" { 4 } else { 2 };
        let style = colour(name, index).stroke_width(width);
        area.draw(&PathElement::new([(4, y), (26, y)], style))?;
        area.draw(&Text::new(name.to_owned(), (34, y - 8), text(15)))?;
    }
    Ok(())
}

/// Draws a row for each subject with a dot for each allocator. The axis of values is logarithmic.
pub fn dots(path: &Path, title: &str, axis: &Axis, rows: &Rows) -> Result<()> {
    let values =
        rows.iter().flat_map(|(_, dots)| dots.iter().flat_map(|dot| [dot.1.low, dot.1.high]));
    let across = Ruler::over(axis, values, true);
    let mut names: Vec<&str> = Vec::new();
    for (_, row) in rows {
        names.extend(row.iter().map(|dot| dot.0.as_str()));
        names.sort_unstable();
        names.dedup();
    }
    // valloc's last, on top of the others.
    names.sort_by_key(|name| *name == "valloc");
    // Room for the rows, and for the legend.
    let height = (90 + 26 * rows.len() as u32).max(70 + 24 * names.len() as u32);
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    let (left, right) = area.split_horizontally(WIDTH - LEGEND);
    let mut chart = ChartBuilder::on(&left)
        .caption(title, text(20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(130)
        .build_cartesian_2d(across, Subjects(rows))?;
    mesh(&mut chart, axis.name, "")?;
    for (index, name) in names.iter().enumerate() {
        let radius = if *name == "valloc" { 6 } else { 4 };
        let ink = colour(name, index);
        // Apart by a part of the row, so that bars do not lie on each other.
        let aside = (index as f64 + 0.5) / names.len() as f64 * 0.7 - 0.35;
        for (row, (_, dots)) in rows.iter().enumerate() {
            let place = row as f64 + 0.5 + aside;
            for (_, value) in dots.iter().filter(|dot| dot.0 == *name) {
                if value.low < value.high {
                    let bar = [(value.low, place), (value.high, place)];
                    chart.draw_series([PathElement::new(bar, ink.stroke_width(2))])?;
                }
                let dot = Circle::new((value.median, place), radius, ink.mix(0.85).filled());
                chart.draw_series([dot])?;
            }
        }
    }
    legend(&right, names.into_iter())?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The strokes of a chart of two points, each with this spread.
    fn strokes(spread: f64, draw: fn(&Path, Middle) -> Result<()>) -> Result<usize> {
        let path = std::env::temp_dir().join(format!("valloc-chart-{}.svg", std::process::id()));
        draw(&path, Middle { low: 2.0 - spread, median: 2.0, high: 2.0 + spread })?;
        let svg = std::fs::read_to_string(&path)?;
        std::fs::remove_file(&path)?;
        // Those of valloc's colour, its line in the legend among them.
        Ok(svg.matches("#D55E00").count())
    }

    #[test]
    fn spread_is_drawn_as_a_bar() -> Result<()> {
        const AXIS: Axis = Axis::new("", Scale::Decades);
        let of_lines = |path: &Path, value: Middle| {
            let series = Series { name: "valloc".into(), points: vec![(1.0, value), (2.0, value)] };
            lines(path, "", &AXIS, &AXIS, &[series])
        };
        // For each point a bar and its two ends.
        assert_eq!(strokes(1.0, of_lines)?, strokes(0.0, of_lines)? + 6);
        let of_dots = |path: &Path, value: Middle| {
            let row = |name: &str| (name.to_owned(), vec![("valloc".to_owned(), value)]);
            dots(path, "", &AXIS, &[row("one"), row("two")])
        };
        assert_eq!(strokes(1.0, of_dots)?, strokes(0.0, of_dots)? + 2);
        Ok(())
    }
}
