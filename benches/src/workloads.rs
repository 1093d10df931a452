//! Typical work of whole Rust programs, on generated input. Each workload returns a checksum, which
//! must be the same on every allocator.

use crate::{status_kib, Random};
use hashbrown::HashMap;
use pulldown_cmark::{html, Options, Parser};
use rayon::prelude::*;
use regex::Regex;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};
use std::num::NonZeroUsize;

/// A name, and the work at a scale in percent of the full amount.
pub type Workload = (&'static str, fn(usize) -> u64);

pub const WORKLOADS: [Workload; 10] = [
    ("json", json_trees),
    ("regex", regex_compile),
    ("hashmap", hashmap_churn),
    ("btree", btree_of_vectors),
    ("rayon", rayon_collect),
    ("tokio", tokio_messages),
    ("markdown", markdown),
    ("vec", vec_growth),
    ("string", string_building),
    ("lru", lru_service),
];

/// The main function of a program with an allocator: `program WORKLOAD SCALE` prints the checksum
/// and the peak of resident memory in KiB. The peak from wait4 would include that of the parent.
pub fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let scale = arguments.next().unwrap_or("100".to_owned()).parse()?;
    let found = WORKLOADS.iter().find(|workload| workload.0 == name);
    let Some((_, work)) = found else { anyhow::bail!("there is no workload '{name}'") };
    let checksum = work(scale);
    println!("{checksum} {}", status_kib("VmHWM:"));
    Ok(())
}

/// A hash map whose order is the same in every run.
type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

fn checksum(bytes: impl AsRef<[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes.as_ref());
    hasher.finish()
}

fn words(random: &mut Random, count: usize) -> String {
    let mut text = String::new();
    for _ in 0..count {
        for _ in 0..1 + random.below(9) {
            text.push((b'a' + random.below(26) as u8) as char);
        }
        text.push(' ');
    }
    text
}

/// Builds documents as trees, prints, parses, changes and drops them.
fn json_trees(scale: usize) -> u64 {
    let mut random = Random(1);
    let mut sum = 0;
    for _ in 0..16 * scale / 100 {
        let rows: Vec<Value> = (0..10_000)
            .map(|id| {
                json!({
                    "id": id,
                    "name": words(&mut random, 2),
                    "tags": (0..random.below(8)).map(|n| format!("tag{n}")).collect::<Vec<_>>(),
                    "at": { "x": random.below(1000), "y": random.below(1000), "label": null },
                })
            })
            .collect();
        let text = Value::Array(rows).to_string();
        let mut tree: Value = serde_json::from_str(&text).expect("it was just printed");
        for row in tree.as_array_mut().expect("it is an array").iter_mut().step_by(3) {
            row["name"] = Value::String(words(&mut random, 3));
            row.as_object_mut().expect("it is an object").remove("at");
        }
        sum ^= checksum(tree.to_string());
    }
    sum
}

/// Compiles expressions, uses each once, and drops it.
fn regex_compile(scale: usize) -> u64 {
    let mut random = Random(2);
    let text = words(&mut random, 2000);
    let mut sum = 0;
    for n in 0..400 * scale / 100 {
        let word = words(&mut random, 1);
        let pattern = format!(
            r"(?i)\b({}|[a-m]{{{}}}\w+|(x|y|z)+[^aeiou\s]*)\s+(\p{{L}}+)?",
            word,
            n % 7 + 2
        );
        let regex = Regex::new(&pattern).expect("the pattern is valid");
        sum += regex.find_iter(&text).map(|found| found.len() as u64).sum::<u64>();
    }
    sum
}

/// A table that gains and loses entries with values of changing length.
fn hashmap_churn(scale: usize) -> u64 {
    let mut random = Random(3);
    let mut map: Map<u64, Vec<u8>> = Map::default();
    let mut sum = 0u64;
    for n in 0..4_000_000 * scale / 100 {
        let key = random.draw() % 300_000;
        if n % 3 == 0 {
            sum = sum.wrapping_add(map.remove(&key).map_or(1, |value| value.len() as u64));
        } else {
            let length = random.below(100);
            map.entry(key).or_default().extend(std::iter::repeat_n(n as u8, length));
        }
    }
    sum.wrapping_add(map.values().map(|value| value.len() as u64).sum())
}

fn btree_of_vectors(scale: usize) -> u64 {
    let mut random = Random(4);
    let mut map: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for n in 0..2_000_000 * scale / 100 {
        let key = format!("key-{}", random.below(200_000));
        map.entry(key).or_default().push(n as u32);
        if n % 16 == 0 {
            map.pop_first();
        }
    }
    map.iter().fold(0, |sum, (key, values)| sum ^ checksum(key) ^ values.len() as u64)
}

fn rayon_collect(scale: usize) -> u64 {
    let mut sum = 0;
    for turn in 0..120 * scale as u64 / 100 {
        let rows: Vec<(u64, String, Vec<u64>)> = (0..60_000u64)
            .into_par_iter()
            .map(|n| (n, format!("row {n} of turn {turn}"), (0..n % 12).collect()))
            .collect();
        let lengths: Vec<Box<u64>> = rows
            .par_iter()
            .map(|(n, name, values)| Box::new(n + name.len() as u64 + values.len() as u64))
            .collect();
        sum += lengths.par_iter().map(|length| **length).sum::<u64>();
    }
    sum
}

/// Sends messages of 16 to 32 KiB through bounded channels: some tasks allocate, others free.
fn tokio_messages(scale: usize) -> u64 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("two threads can be started");
    let messages = 150_000 * scale as u64 / 100;
    runtime.block_on(async move {
        let tasks: Vec<_> = (0..8u64)
            .map(|task| {
                let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(64);
                tokio::spawn(async move {
                    let mut random = Random(5 + task);
                    for n in 0..messages {
                        let length = (16 << 10) + random.below(16 << 10);
                        if sender.send(vec![n as u8; length]).await.is_err() {
                            return;
                        }
                    }
                });
                tokio::spawn(async move {
                    let mut sum = 0;
                    while let Some(message) = receiver.recv().await {
                        sum += message.len() as u64 + u64::from(message[message.len() / 2]);
                    }
                    sum
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.expect("the task returns");
        }
        sum
    })
}

fn markdown(scale: usize) -> u64 {
    let mut random = Random(6);
    let mut text = String::new();
    for n in 0..4000 {
        let words = words(&mut random, 60);
        writeln!(text, "## Part {n}\n\n{words} **bold {n}** [link](target{n}) `code`\n")
            .expect("a String takes everything");
        for item in 0..random.below(6) {
            writeln!(text, "- item {item} *with* [^{n}] and ~~more~~\n  - nested")
                .expect("a String takes everything");
        }
        writeln!(text, "\n| a | b |\n|---|---|\n| {n} | {} |\n", n * 7)
            .expect("a String takes everything");
    }
    let mut sum = 0;
    for _ in 0..(24 * scale / 100).max(1) {
        let mut out = String::new();
        html::push_html(&mut out, Parser::new_ext(&text, Options::all()));
        // The same document as a list of owned events.
        let events: Vec<_> =
            Parser::new_ext(&text, Options::all()).map(|event| event.into_static()).collect();
        sum += checksum(out) % 1000 + events.len() as u64;
    }
    sum
}

/// A Vec that grows by push to 1 GiB.
fn vec_growth(scale: usize) -> u64 {
    let mut all: Vec<u64> = Vec::new();
    for n in 0..(1u64 << 27) * scale as u64 / 100 {
        all.push(n);
    }
    all.iter().step_by(4096).sum()
}

fn string_building(scale: usize) -> u64 {
    let mut random = Random(7);
    let mut lines: Vec<String> = Vec::new();
    let mut sum = 0;
    for n in 0..1_500_000 * scale / 100 {
        let mut line = String::new();
        for _ in 0..1 + random.below(12) {
            line += &n.to_string();
            line.push(',');
        }
        lines.push(line.replace(",", ", ").trim_end().to_owned());
        if lines.len() == 20_000 {
            sum ^= checksum(lines.join("\n"));
            lines.clear();
        }
    }
    sum
}

/// A cache in front of a store: requests allocate, and an answer lives until it is the oldest.
fn lru_service(scale: usize) -> u64 {
    let mut random = Random(8);
    let capacity = NonZeroUsize::new(50_000).expect("it is not zero");
    let mut cache =
        lru::LruCache::with_hasher(capacity, BuildHasherDefault::<DefaultHasher>::default());
    let mut hits = 0;
    for _ in 0..3_000_000 * scale / 100 {
        // Some keys are asked for far more often.
        let key = format!("user:{}", random.below(400) * random.below(400));
        match cache.get(&key) {
            Some(answer) => hits += Vec::len(answer) as u64,
            None => {
                let most = 1 << random.below(12);
                let answer = vec![7u8; 32 + random.below(most)];
                cache.put(key, answer);
            }
        }
    }
    hits
}
