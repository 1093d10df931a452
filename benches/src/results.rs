//! Files of results in a folder: CSV of samples, text of tables.

use anyhow::{Context, Result};
use serde::{de::DeserializeOwned, Serialize};
use std::path::{Path, PathBuf};

/// What every benchmark lets its caller choose.
#[derive(clap::Args)]
pub struct Common {
    /// Folder for the samples, the summary, the plots and the page
    #[arg(long, default_value = "build/bench")]
    pub out: PathBuf,
    /// Much less work, one round
    #[arg(long)]
    pub quick: bool,
    /// Internal: run one allocator in this process and write samples to stdout
    #[arg(long, hide = true)]
    pub child: Option<String>,
}

impl Common {
    /// The path of a file of results.
    pub fn file(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }
}

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
