//! Tables and plots of what other programs measured, and the page of everything in a folder.

use anyhow::{Context, Result};
use clap::Parser;
use valloc_benches::comparison::{Comparison, ALL};
use valloc_benches::page;
use valloc_benches::results::Common;

/// Reports on samples in the folder, and writes the page.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Comparisons; by default all that have samples
    names: Vec<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    for name in &options.names {
        let found = Comparison::named(name);
        found.with_context(|| {
            let all = ALL.map(|comparison| comparison.name).join(", ");
            format!("there is no comparison named {name}; there are {all}")
        })?;
    }
    for comparison in &ALL {
        let wanted = if options.names.is_empty() {
            comparison.samples(&options.common).exists()
        } else {
            options.names.iter().any(|name| name == comparison.name)
        };
        if wanted {
            comparison.report(&options.common)?;
        }
    }
    page::write(&options.common.out)?;
    println!("\n{} shows everything.", options.common.file("index.html").display());
    Ok(())
}
