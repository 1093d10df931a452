//! A server that shows its own heap: profiles for `go tool pprof`, and metrics for Prometheus.
//!
//! `cargo run --release -p valloc --example server -- 127.0.0.1:8080` serves until it is stopped:
//!
//! * `/work` answers, and keeps something of each request: a leak to look for;
//! * `/debug/pprof/heap` is the memory in use, `/debug/pprof/allocs` all that was allocated:
//!   `go tool pprof http://127.0.0.1:8080/debug/pprof/heap`;
//! * `/metrics` are the statistics.
//!
//! Without an address it sends requests to itself, and ends. Compile with
//! `RUSTFLAGS="-C force-frame-pointers=yes"`, or call stacks end early.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::{env, thread};

use valloc::profile::{self, Guard, Mode};
use valloc::StatsFormat;

#[global_allocator]
static GLOBAL: valloc::Valloc = valloc::Valloc;

/// What requests leave behind.
static KEPT: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn work() -> Vec<u8> {
    let words: Vec<String> = (0..1000).map(|i| format!("word{}", i * i % 701)).collect();
    let text = words.join(" ");
    let length = text.len();
    KEPT.lock().expect("no thread panics").push(text);
    format!("{length} bytes\n").into_bytes()
}

fn metrics() -> Vec<u8> {
    let mut text = String::new();
    valloc::print_stats(StatsFormat::Prometheus, &mut text).expect("a String takes all");
    text.into_bytes()
}

fn answer(stream: TcpStream) -> io::Result<()> {
    let mut request = String::new();
    let mut reader = BufReader::new(&stream);
    reader.read_line(&mut request)?;
    let mut header = String::new();
    let mut body_length = 0;
    while reader.read_line(&mut header)? > 2 {
        let (name, value) = header.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            body_length = value.trim().parse().unwrap_or(0);
        }
        header.clear();
    }
    io::copy(&mut reader.take(body_length), &mut io::sink())?;
    const BYTES: &str = "application/octet-stream";
    const METRICS: &str = "text/plain; version=0.0.4";
    let path = request.split([' ', '?']).nth(1).unwrap_or("");
    let (status, kind, body) = match path {
        "/work" => ("200 OK", "text/plain", work()),
        "/debug/pprof/heap" => ("200 OK", BYTES, profile::dump_pprof()),
        "/debug/pprof/allocs" => ("200 OK", BYTES, profile::dump_pprof_all()),
        // pprof asks for names that it does not find in the program's file.
        "/debug/pprof/symbol" => ("200 OK", "text/plain", b"num_symbols: 0\n".to_vec()),
        "/metrics" => ("200 OK", METRICS, metrics()),
        _ => ("404 Not Found", "text/plain", b"not here\n".to_vec()),
    };
    let length = body.len();
    let mut stream = &stream;
    write!(
        stream,
        "HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(&body)
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(|| answer(stream)); // a client that leaves early is no error
    }
    Ok(())
}

/// The answer without its headers.
fn get(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let headers = answer.windows(4).position(|end| end == b"\r\n\r\n");
    headers.map(|end| answer.split_off(end + 4)).ok_or_else(|| io::Error::other("no answer"))
}

fn main() -> io::Result<()> {
    // Until the guard is dropped. Where valloc forwards there is no profiler.
    let guard: Option<Guard> = profile::guard(64 << 10, Mode::All).ok();
    let address = env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    if address.is_some() {
        return serve(&listener);
    }
    let address = listener.local_addr()?;
    thread::spawn(move || serve(&listener));
    for _ in 0..1000 {
        get(address, "/work")?;
    }
    for path in ["/debug/pprof/heap", "/debug/pprof/allocs", "/metrics"] {
        let body = get(address, path)?;
        println!("{path}: {} bytes", body.len());
        if body.len() < 1000 && guard.is_some() {
            return Err(io::Error::other("too short"));
        }
    }
    Ok(())
}
