//! Measurements in separate processes.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The resources that a process used.
#[derive(Clone, Copy)]
pub struct Usage {
    /// Processor time, user and system, in seconds
    pub cpu: f64,
    pub wall: f64,
}

/// Runs a command to its end. Returns its standard output and the resources it used.
pub fn run(command: &mut Command) -> Result<(Vec<u8>, Usage)> {
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    let mut output = Vec::new();
    child.stdout.take().context("its stdout is a pipe")?.read_to_end(&mut output)?;
    let mut status = 0;
    // SAFETY: rusage is plain data; the child is ours and was not waited for.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let pid = child.id() as libc::pid_t;
        anyhow::ensure!(libc::wait4(pid, &mut status, 0, &mut usage) == pid, "wait4 failed");
        usage
    };
    anyhow::ensure!(status == 0, "{:?} ended with status {status:#x}", command);
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let usage = Usage {
        cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        wall: start.elapsed().as_secs_f64(),
    };
    Ok((output, usage))
}

/// Runs this program again as a measuring child. Returns the samples that it prints as CSV.
pub fn samples<T: DeserializeOwned>(arguments: &[&str]) -> Result<Vec<T>> {
    rows(&print(arguments)?)
}

/// The same for a child that prints two tables, with an empty line between them.
pub fn two_tables<T, U>(arguments: &[&str]) -> Result<(Vec<T>, Vec<U>)>
where
    T: DeserializeOwned,
    U: DeserializeOwned,
{
    let output = print(arguments)?;
    let (first, second) = output.split_once("\n\n").context("a child printed one table")?;
    Ok((rows(first)?, rows(second)?))
}

/// Runs this program again and returns its standard output.
fn print(arguments: &[&str]) -> Result<String> {
    let (output, _) = run(Command::new(std::env::current_exe()?).args(arguments))?;
    Ok(String::from_utf8(output)?)
}

fn rows<T: DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    let rows = csv::Reader::from_reader(text.as_bytes()).into_deserialize();
    rows.collect::<Result<_, _>>().context("a child printed something else than samples")
}

/// Numbers as a list for the command line.
pub fn list(numbers: &[usize]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The items, beginning with another one in every turn, so that none is always the first.
pub fn in_turn<T>(items: &[T], turn: usize) -> impl Iterator<Item = &T> {
    items.iter().cycle().skip(turn % items.len().max(1)).take(items.len())
}
