//! Sizes, medians and means.

/// A line of /proc/self/status in KiB.
pub fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line[name.len()..].split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0)
}

/// Sorts the values and returns their median; NaN if there are none.
pub fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// Sorts the values and returns a quantile, interpolated between neighbours; NaN if there are none.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let place = part * last as f64;
    let (below, above) = (values[place as usize], values[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// The median of some values, and their quartiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Middle {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Middle {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        Self {
            low: quantile(&mut values, 0.25),
            median: median(&mut values),
            high: quantile(&mut values, 0.75),
        }
    }

    /// A value without a known spread.
    pub fn alone(value: f64) -> Self {
        Self { low: value, median: value, high: value }
    }

    /// Half the distance between the quartiles, in percent of the median
    pub fn spread(&self) -> f64 {
        (self.high - self.low) / 2.0 / self.median * 100.0
    }

    /// The same in another unit.
    pub fn per(&self, unit: f64) -> Self {
        Self { low: self.low / unit, median: self.median / unit, high: self.high / unit }
    }
}

/// The geometric mean of ratios.
pub fn geometric_mean(ratios: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) =
        ratios.into_iter().fold((0.0, 0), |(sum, count), ratio| (sum + ratio.ln(), count + 1));
    (sum / f64::from(count)).exp()
}

/// 8, 1 KiB, 32 MiB.
pub fn human_size(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 20 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}
