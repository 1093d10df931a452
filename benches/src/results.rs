//! Files of results in a folder: CSV of samples, text of tables.
//!
//! While a part is measured, every sample and every failure is in its file as soon as it is there:
//! an interruption or a failure takes away nothing that was measured. What an earlier run left stays
//! until this one has its first sample.

use crate::page;
use anyhow::{Context, Result};
use clap::builder::RangedU64ValueParser;
use serde::{de::DeserializeOwned, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What every benchmark lets its caller choose.
#[derive(clap::Args)]
pub struct Common {
    /// Folder for the samples, the summary, the plots and the page
    #[arg(long, default_value = "build/bench")]
    pub out: PathBuf,
    /// Much less work, one round
    #[arg(long)]
    pub quick: bool,
    /// Measure nothing: tables, plots and the page anew from the samples in the folder
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

/// Numbers that a benchmark can work with, for clap to refuse all others.
pub fn within(range: RangeInclusive<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

/// Rounds, iterations and amounts of work: there is at least one.
pub fn count() -> RangedU64ValueParser<usize> {
    within(1..=1 << 30)
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A part of the benchmarks that is being measured.
pub struct Part {
    out: PathBuf,
    name: String,
    run: String,
    /// NAME-ENDING: none before the first sample
    tables: BTreeMap<&'static str, csv::Writer<File>>,
    failures: Vec<String>,
}

impl Part {
    /// Begins a part; the first sample begins NAME-samples.csv anew, and with it NAME-run.txt, which
    /// has commit, time and load, and NAME-failures.txt. From now on Ctrl-C ends the measuring, a
    /// second one the program.
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

    /// Keeps the samples of WHAT, or that it failed. Fails itself once all has to end.
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

    /// Adds rows to NAME-ENDING, which the first of them begin anew.
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

    /// Fails if anything has.
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

/// A file that takes the place of the one there once these rows are in it; more can follow.
fn replace<T: Serialize>(path: &Path, rows: &[T]) -> Result<csv::Writer<File>> {
    let new = path.with_extension("csv.new");
    let mut file =
        csv::Writer::from_path(&new).with_context(|| format!("cannot write {}", new.display()))?;
    append(&mut file, rows)?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

/// Measures, unless only reports are asked for; whatever became of that, reports on the samples that
/// there are, and renews the page.
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
