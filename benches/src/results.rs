//! Files of results in a folder: CSV of samples, text of tables.
//!
//! Every sample and every failure is written at once, so an interruption or a failure loses nothing
//! else. The files of an earlier run stay until the new one has its first sample.

use crate::page;
use anyhow::{Context, Result};
use clap::builder::RangedU64ValueParser;
use serde::{de::DeserializeOwned, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Options of every benchmark.
#[derive(clap::Args)]
pub struct Common {
    /// Folder for the samples, the summary, the plots and the page
    #[arg(long, default_value = "build/bench")]
    pub out: PathBuf,
    /// Much less work, one round
    #[arg(long)]
    pub quick: bool,
    /// Measure nothing; write tables, plots and the page from the samples in the folder
    #[arg(long)]
    pub report: bool,
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

/// Numbers that a benchmark accepts; clap refuses others.
pub fn within(range: RangeInclusive<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

/// Rounds, iterations and amounts of work: at least one.
pub fn count() -> RangedU64ValueParser<usize> {
    within(1..=1 << 30)
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A part of the benchmarks while it is measured.
pub struct Part {
    out: PathBuf,
    name: String,
    run: String,
    /// By ending of NAME-ENDING; created with the first sample
    tables: BTreeMap<&'static str, csv::Writer<File>>,
    failures: Vec<String>,
}

impl Part {
    /// Begins a part. The first sample replaces NAME-samples.csv, NAME-run.txt (commit, time, load)
    /// and NAME-failures.txt. From now on Ctrl-C ends the measurement, a second one the program.
    pub fn begin(common: &Common, name: &str) -> Result<Self> {
        folder(&common.out)?;
        extern "C" fn note(_: libc::c_int) {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
        // SAFETY: the handler only sets a flag, which no other thread's data depends on.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
            libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
        }
        Ok(Self {
            out: common.out.clone(),
            name: name.to_owned(),
            run: page::moment(),
            tables: BTreeMap::new(),
            failures: Vec::new(),
        })
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.out.join(format!("{}-{ending}", self.name))
    }

    /// Saves the samples of WHAT, or its failure. Fails after an interruption.
    pub fn keep<T: Serialize>(&mut self, what: &str, samples: Result<Vec<T>>) -> Result<()> {
        anyhow::ensure!(
            !INTERRUPTED.load(Ordering::Relaxed),
            "interrupted: what was measured is kept"
        );
        match samples {
            Ok(samples) => self.write("samples.csv", &samples)?,
            Err(error) => {
                let failure = format!("{what}: {error:#}");
                eprintln!("{failure}");
                self.failures.push(failure);
                fs::write(self.file("failures.txt"), self.failures.join("\n") + "\n")?;
            }
        }
        Ok(())
    }

    /// Adds rows to NAME-ENDING. The first rows replace the file.
    pub fn write<T: Serialize>(&mut self, ending: &'static str, rows: &[T]) -> Result<()> {
        if let Some(file) = self.tables.get_mut(ending) {
            return append(file, rows);
        }
        if rows.is_empty() {
            return Ok(());
        }
        if self.tables.is_empty() {
            fs::write(self.file("run.txt"), &self.run)?;
            if self.failures.is_empty() && self.file("failures.txt").exists() {
                fs::remove_file(self.file("failures.txt"))?;
            }
        }
        self.tables.insert(ending, replace(&self.file(ending), rows)?);
        Ok(())
    }

    /// Fails if anything failed.
    pub fn end(self) -> Result<()> {
        let all = self.failures;
        anyhow::ensure!(all.is_empty(), "{} failed:\n{}", all.len(), all.join("\n"));
        Ok(())
    }
}

fn append<T: Serialize>(file: &mut csv::Writer<File>, rows: &[T]) -> Result<()> {
    rows.iter().try_for_each(|row| file.serialize(row))?;
    Ok(file.flush()?)
}

/// Writes a new file with these rows, then replaces the old one. More rows can follow.
fn replace<T: Serialize>(path: &Path, rows: &[T]) -> Result<csv::Writer<File>> {
    let new = path.with_extension("csv.new");
    let mut file =
        csv::Writer::from_path(&new).with_context(|| format!("cannot write {}", new.display()))?;
    append(&mut file, rows)?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

/// Measures, unless only a report is requested. Then reports on all existing samples, even after a
/// failure, and writes the page.
pub fn run(
    common: &Common,
    name: &str,
    measure: impl FnOnce(Part) -> Result<()>,
    report: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let measured = if common.report { Ok(()) } else { Part::begin(common, name).and_then(measure) };
    let samples = common.file(&format!("{name}-samples.csv"));
    let reported = if fs::metadata(&samples).is_ok_and(|file| file.len() > 0) {
        report().and_then(|()| page::write(&common.out))
    } else {
        Err(anyhow::anyhow!("there are no samples in {}", samples.display()))
    };
    measured?;
    reported?;
    println!(
        "\nSamples, summary and plots are in {}; index.html shows them.",
        common.out.display()
    );
    Ok(())
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

/// Prints a table, and saves it for the page.
pub fn publish(path: &Path, table: &str) -> Result<()> {
    print!("{table}");
    std::fs::write(path, table).with_context(|| format!("cannot write {}", path.display()))
}

/// Creates the folder of results.
pub fn folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}
