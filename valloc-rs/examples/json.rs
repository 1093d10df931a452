//! A program that allocates much: it parses a large JSON document in several threads, transforms it,
//! prints it again, and reports time and peak resident memory.
//!
//! ```text
//! cargo run --release -p valloc --example json [FILE] [THREADS]
//! ```
//!
//! Without a file it generates a document of about 20 MiB. All threads must have the same result.

use std::error::Error;
use std::time::Instant;

use serde_json::{json, Map, Value};

#[global_allocator]
static GLOBAL: valloc::Valloc = valloc::Valloc;

fn document(people: u64) -> String {
    let people: Vec<Value> = (0..people)
        .map(|i| {
            json!({
                "id": i,
                "name": format!("person {i}"),
                "tags": (0..i % 7).map(|t| format!("tag-{t}")).collect::<Vec<_>>(),
                "address": { "street": format!("{} Main Street", i % 1000), "zip": 10_000 + i % 90_000 },
                "scores": (0..i % 11).map(|s| (s * i) as f64 / 3.0).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "people": people }).to_string()
}

/// Keys in upper case, numbers doubled, arrays reversed: every node is rebuilt.
fn transform(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (key.to_uppercase(), transform(value)))
                .collect::<Map<_, _>>(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().rev().map(transform).collect()),
        Value::Number(n) => json!(n.as_f64().unwrap_or(0.0) * 2.0),
        other => other,
    }
}

fn checksum(text: &str) -> u64 {
    // FNV-1a, 64 bits.
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn peak_resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let text = match arguments.next() {
        Some(file) => std::fs::read_to_string(file)?,
        None => document(100_000),
    };
    let threads: usize = arguments.next().map_or(Ok(4), |n| n.parse())?;
    println!("document: {:.1} MiB, {threads} threads", text.len() as f64 / 1048576.0);

    let start = Instant::now();
    let results = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| -> Result<(usize, u64), serde_json::Error> {
                    let parsed: Value = serde_json::from_str(&text)?;
                    let printed = serde_json::to_string_pretty(&transform(parsed))?;
                    Ok((printed.len(), checksum(&printed)))
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic in a worker"))
            .collect::<Result<Vec<_>, _>>()
    })?;
    let time = start.elapsed();

    let Some(first) = results.first() else {
        return Err("no threads, no result".into());
    };
    if results.iter().any(|result| result != first) {
        return Err("the threads' results differ".into());
    }
    println!("result: {:.1} MiB, checksum {:016x}", first.0 as f64 / 1048576.0, first.1);
    println!(
        "time: {:.2} s, peak resident: {:.1} MiB",
        time.as_secs_f64(),
        peak_resident_kib().unwrap_or(0) as f64 / 1024.0
    );
    Ok(())
}
