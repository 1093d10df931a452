//! Files of results in a folder: CSV of samples, text of tables.

use anyhow::{Context, Result};
use serde::{de::DeserializeOwned, Serialize};
use std::path::Path;

pub fn write_csv<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let mut csv =
        csv::Writer::from_path(path).with_context(|| format!("cannot write {}", path.display()))?;
    rows.iter().try_for_each(|row| csv.serialize(row))?;
    Ok(csv.flush()?)
}

pub fn read_csv<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let mut csv =
        csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    csv.deserialize().collect::<Result<_, _>>().with_context(|| format!("in {}", path.display()))
}

/// Prints a table, and keeps it in a file for the page.
pub fn publish(path: &Path, table: &str) -> Result<()> {
    print!("{table}");
    std::fs::write(path, table).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes the folder of results.
pub fn folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}
