//! A server that counts words. Its worker threads give each request a heap of its own, and free all
//! allocations of the request at once.
//!
//! `cargo run --release -p valloc --example request_arena --features allocator-api2` starts it, sends
//! requests over loopback, and prints the results.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hashbrown::{DefaultHashBuilder, HashMap};
use valloc::Heap;

#[global_allocator]
static GLOBAL: valloc::Valloc = valloc::Valloc;

const WORKERS: usize = 4;
const CLIENTS: usize = 4;
const REQUESTS: usize = 500; // per client

/// The most frequent word and its count, computed in the request's memory only.
fn most_frequent<'h>(heap: &'h Heap, text: &str) -> (&'h str, usize) {
    let mut counts: HashMap<&'h str, usize, DefaultHashBuilder, &'h Heap> = HashMap::new_in(heap);
    for word in text.split_whitespace() {
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                let word: &'h str = heap.alloc_str(word).expect("below the limit");
                counts.insert(word, 1);
            }
        }
    }
    counts.into_iter().max_by_key(|&(word, count)| (count, word)).unwrap_or(("", 0))
}

fn answer(stream: &mut TcpStream, blocks: &AtomicUsize) -> std::io::Result<bool> {
    let mut length = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    if reader.read_line(&mut length)? == 0 {
        return Ok(false);
    }
    let length: usize = length.trim().parse().map_err(std::io::Error::other)?;
    let mut text = String::with_capacity(length);
    reader.take(length as u64).read_to_string(&mut text)?;

    // A request can use 8 MiB at most; the heap is dropped at the end of the block.
    let heap = Heap::builder().name(c"request").hard_limit(8 << 20).build().expect("memory");
    let (word, count) = most_frequent(&heap, &text);
    writeln!(stream, "{word} {count}")?;
    blocks.fetch_max(heap.stats().used_blocks, Ordering::Relaxed);
    Ok(true)
}

fn request(client: usize, number: usize) -> (String, String) {
    let mut text = String::new();
    for i in 0..2000 {
        text += &format!("word{} ", (i * i + client + number) % 701);
    }
    text += &"often ".repeat(100 + number % 7);
    (text, format!("often {}\n", 100 + number % 7))
}

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let blocks = AtomicUsize::new(0);
    let before = valloc::stats();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("a client");
                while answer(&mut stream, &blocks).expect("a request") {}
            });
        }
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).expect("the server");
                let mut answers = BufReader::new(stream.try_clone().expect("a handle"));
                for number in 0..REQUESTS {
                    let (text, expected) = request(client, number);
                    write!(stream, "{}\n{text}", text.len()).expect("sent");
                    let mut line = String::new();
                    answers.read_line(&mut line).expect("an answer");
                    assert_eq!(line, expected);
                }
            });
        }
    });
    println!(
        "{} requests answered; a heap held {} blocks of 64 KiB at most; lent in the end: {} KiB more",
        CLIENTS * REQUESTS,
        blocks.into_inner(),
        valloc::stats().lent.saturating_sub(before.lent) >> 10,
    );
    Ok(())
}
