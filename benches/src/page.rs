//! One page of all results in a folder, for a browser: plots, tables, and the machine.

use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// The parts of the page: prefix of their files, heading, description.
const SECTIONS: [(&str, &str, &str); 12] = [
    (
        "founding",
        "By size and by threads",
        "Every thread allocates blocks of one size, fills them by memset or leaves them untouched, \
         and frees them. Mean = (allocation + free) / 2, in nanoseconds per operation.",
    ),
    (
        "latency",
        "Regularity",
        "Latency of single operations: percentiles.",
    ),
    (
        "memory",
        "Memory over time",
        "Resident memory against the bytes that are live, through growth, shrinking, idling, \
         purging and growth again.",
    ),
    (
        "programs-rust",
        "Whole Rust programs",
        "One binary for each global allocator, in turns. Figures are multiples of the best one's.",
    ),
    (
        "programs-c",
        "Whole C and C++ programs",
        "The distribution's packages, by LD_PRELOAD, in turns. Figures are multiples of the best one's.",
    ),
    (
        "threads",
        "Memory that crosses threads",
        "Patterns of many threads in C, by LD_PRELOAD, in turns. Figures are multiples of the best one's.",
    ),
    (
        "micro",
        "Patterns of one thread",
        "In C, by LD_PRELOAD, in turns. Figures are multiples of the best one's.",
    ),
    (
        "startup",
        "Small programs",
        "The cost of preloading for programs that do almost nothing, in turns. Figures are multiples \
         of the best one's. `nothing` is the program alone, `empty` a library without code.",
    ),
    (
        "instances",
        "Allocators of your own",
        "The cost of a MemoryAllocator compared with the allocator of the process.",
    ),
    ("runs", "The search for runs", "Lending and returning runs of blocks in a full arena."),
    (
        "secure",
        "Secure builds",
        "The cost of the secure build's features, each alone and all together.",
    ),
    (
        "instructions",
        "Instructions",
        "Instructions of a call outside the kernel, counted by callgrind, without the loop around \
         it. Rows are named by the operation, the size in bytes, and the call that is counted.",
    ),
];

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --soft: #f2f2f2; }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --paper: #181a1b; --soft: #26292b; } }
body { color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif;
       max-width: 1900px; margin: 0 auto; padding: 1rem 2rem; }
section { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 620px), 1fr));
          gap: 1rem; margin-top: 3rem; }
figure { margin: 0; }
section > h2, section > p, section > pre, section > details { grid-column: 1 / -1; margin: 0; }
svg { width: 100%; height: auto; }
svg text { fill: var(--ink); }
pre { background: var(--soft); padding: 1rem; overflow-x: auto; font-size: 13px; }
th { text-align: left; padding-right: 1.5rem; white-space: nowrap; vertical-align: top; }
";

/// Writes index.html from the plots (*.svg), tables (*.txt) and samples (*.csv) of a folder.
pub fn write(folder: &Path) -> Result<()> {
    let mut files: Vec<String> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    files.sort();
    let mut page = String::new();
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>valloc measured</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>valloc measured</h1>\n<table>\n"
    )?;
    let circumstances = circumstances();
    for (what, value) in &circumstances {
        writeln!(page, "<tr><th>{what}</th><td>{}</td></tr>", escape(value))?;
    }
    // For benches/report/tables.py.
    let lines = circumstances.iter().map(|(what, value)| format!("{what}: {}\n", value.trim()));
    std::fs::write(folder.join("circumstances.txt"), lines.collect::<String>())?;
    page.push_str("</table>\n");
    for (prefix, heading, intro) in SECTIONS {
        let of = |ending: &str| {
            let belongs = |file: &&String| file.starts_with(prefix) && file.ends_with(ending);
            files.iter().filter(belongs).cloned().collect::<Vec<_>>()
        };
        let (plots, mut tables, samples) = (of(".svg"), of(".txt"), of(".csv"));
        let (run, failures) = (format!("{prefix}-run.txt"), format!("{prefix}-failures.txt"));
        let (when, failed) = (tables.contains(&run), tables.contains(&failures));
        tables.retain(|file| *file != run && *file != failures);
        if plots.is_empty() && tables.is_empty() {
            continue;
        }
        writeln!(page, "<section id=\"{prefix}\">\n<h2>{heading}</h2>\n<p>{intro}</p>")?;
        if when {
            writeln!(page, "<p>{}</p>", escape(&read(&folder.join(run))?))?;
        }
        if failed {
            let what = escape(&read(&folder.join(failures))?);
            writeln!(page, "<pre class=\"failed\">Failed:\n{what}</pre>")?;
        }
        for file in &plots {
            writeln!(page, "<figure>{}</figure>", inline(&folder.join(file))?)?;
        }
        for file in &tables {
            let table = read(&folder.join(file))?;
            writeln!(
                page,
                "<details><summary>{}</summary><pre>{}</pre></details>",
                escape(file.trim_end_matches(".txt")),
                escape(&table)
            )?;
        }
        let links: Vec<_> =
            samples.iter().map(|file| format!("<a href=\"{file}\">{file}</a>")).collect();
        if !links.is_empty() {
            writeln!(page, "<p>Data: {}</p>", links.join(", "))?;
        }
        page.push_str("</section>\n");
    }
    page.push_str("</body>\n</html>\n");
    let path = folder.join("index.html");
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// An SVG file as an element of the page.
fn inline(path: &Path) -> Result<String> {
    let svg = read(path)?;
    let start = svg.find("<svg").with_context(|| format!("{} is no SVG", path.display()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(svg[start..].replacen("<svg", &format!("<svg role=\"img\" aria-label=\"{name}\""), 1))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The first line that a command prints.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |done| String::from_utf8_lossy(&done.stdout).lines().next().unwrap_or("").to_owned(),
    )
}

fn commit() -> String {
    let dirty = match output("git", &["status", "--porcelain"]).as_str() {
        "" => "",
        _ => ", with changes",
    };
    output("git", &["describe", "--always", "--tags", "--abbrev=12"]) + dirty
}

fn now() -> String {
    output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
}

/// Commit, time and load of one part. The page may show parts that were measured at other times.
pub fn moment() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("Commit {}, begun {}, load average {load} before.\n", commit(), now())
}

/// Machine, versions and commit.
fn circumstances() -> Vec<(&'static str, String)> {
    let line_of = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once([':', '=']).map_or("unknown", |pair| pair.1).trim_matches([' ', '"']).into()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory: String = line_of("/proc/meminfo", "MemTotal");
    let huge = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    vec![
        ("Commit", commit()),
        ("Date", now()),
        ("Processor", format!("{}, {cores} cores", line_of("/proc/cpuinfo", "model name"))),
        ("Memory", memory),
        ("Huge pages", huge.unwrap_or_else(|_| "none".to_owned())),
        ("System", line_of("/etc/os-release", "PRETTY_NAME")),
        ("Kernel", output("uname", &["-sr"])),
        ("C library", output("ldd", &["--version"])),
        ("C compiler", output("cc", &["--version"])),
        ("C flags", c_flags()),
        ("Rust", output("rustc", &["--version"])),
        ("Rust flags", rust_flags()),
        ("Crates", crates()),
        ("Packages", packages()),
    ]
}

/// Compiler flags of the override library in the C benchmarks.
fn c_flags() -> String {
    let build = std::fs::read_to_string("build/release/build.ninja").unwrap_or_default();
    let unit = build.split("valloc_override.dir/c/src/unity.c.o:").nth(1).unwrap_or_default();
    let flags = unit.lines().find_map(|line| line.trim().strip_prefix("FLAGS = "));
    let others = unit.lines().find_map(|line| line.trim().strip_prefix("DEFINES = "));
    flags.map_or_else(
        || "not built".to_owned(),
        |flags| format!("{flags} {}", others.unwrap_or_default()).trim().to_owned(),
    )
}

/// Compiler flags of this program and of the crates.
fn rust_flags() -> String {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release, C of valloc by -O3" };
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    format!("profile {profile} {flags}").trim().to_owned()
}

/// Versions of the peers' crates, as locked.
fn crates() -> String {
    let lock = include_str!("../../Cargo.lock");
    let named = ["libmimalloc-sys", "tikv-jemalloc-sys", "snmalloc-sys"];
    let version = |name: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", rest.split_once('"')?.0))
    };
    named.iter().filter_map(|name| version(name)).collect::<Vec<_>>().join(", ")
}

/// Versions of the peers' packages, if dpkg knows them.
fn packages() -> String {
    let named = ["libmimalloc2.0", "libjemalloc2", "libtcmalloc-minimal4"];
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${Version}, "])
        .args(named)
        .output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |done| String::from_utf8_lossy(&done.stdout).trim_end_matches(", ").to_owned(),
    )
}
