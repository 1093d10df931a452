//! Writes tables and plots from samples of other programs, and the page of everything in a folder.

use anyhow::{Context, Result};
use clap::Parser;
use std::process::Command;
use valloc_benches::comparison::{Comparison, ALL};
use valloc_benches::page;
use valloc_benches::results::Common;

/// Writes tables and plots from the samples in the folder, and the page.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Comparisons; by default all that have samples
    names: Vec<String>,
}

/// Programs that report on their own samples.
const PROGRAMS: [&str; 3] = ["founding", "latency", "memory"];

fn main() -> Result<()> {
    let Options { common, names } = Options::parse();
    for name in &names {
        let found = Comparison::named(name);
        found.with_context(|| {
            let all = ALL.map(|comparison| comparison.name).join(", ");
            format!("there is no comparison named {name}; there are {all}")
        })?;
    }
    let has_samples = |name: &str| {
        let file = std::fs::metadata(common.file(&format!("{name}-samples.csv")));
        file.is_ok_and(|file| file.len() > 0)
    };
    for name in PROGRAMS.iter().filter(|name| names.is_empty() && has_samples(name)) {
        let program = std::env::current_exe()?.with_file_name(name);
        let mut command = Command::new(program);
        let status = command.args(["--report", "--out"]).arg(&common.out).status()?;
        anyhow::ensure!(status.success(), "{name} --report failed");
    }
    for comparison in &ALL {
        let wanted = match names.is_empty() {
            true => has_samples(comparison.name),
            false => names.iter().any(|name| name == comparison.name),
        };
        if wanted {
            comparison.report(&common)?;
        }
    }
    page::write(&common.out)?;
    println!("\n{} shows everything.", common.file("index.html").display());
    Ok(())
}
