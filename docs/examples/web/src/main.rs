//! A web service with axum on valloc: it counts words, with a heap for each request, and shows its own
//! heap profile and metrics.
//!
//! `cargo run --release -- 127.0.0.1:8080` serves until it is stopped:
//!
//! * `POST /words` answers with the most frequent word of the body;
//! * `GET /debug/pprof/heap` is the memory in use, `GET /debug/pprof/allocs` all that was allocated:
//!   `go tool pprof http://127.0.0.1:8080/debug/pprof/heap`;
//! * `GET /metrics` are statistics for Prometheus.
//!
//! Without an address it sends requests to itself, and ends. Compile with
//! `RUSTFLAGS="-C force-frame-pointers=yes"`, or call stacks end early.

use std::io;
use std::net::SocketAddr;

use axum::extract::DefaultBodyLimit;
use axum::http::{header, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::Router;
use hashbrown::{DefaultHashBuilder, HashMap};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use valloc::profile::{self, Mode};
use valloc::{Heap, StatsFormat};

#[global_allocator]
static GLOBAL: valloc::Valloc = valloc::Valloc;

/// All that a request may use.
const REQUEST_BYTES: usize = 16 << 20;
const BODY_BYTES: usize = 4 << 20;

type Counts<'h, 't> = HashMap<&'t str, usize, DefaultHashBuilder, &'h Heap>;

/// The table lies in a heap of the request, which is dropped with all of it. Nothing is awaited while
/// the heap lives.
async fn words(text: String) -> Response {
    let Ok(heap) = Heap::builder().name(c"request").hard_limit(REQUEST_BYTES).build() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let mut counts: Counts = HashMap::new_in(&heap);
    for word in text.split_whitespace() {
        // A request beyond its limit fails alone.
        if counts.try_reserve(1).is_err() {
            return StatusCode::PAYLOAD_TOO_LARGE.into_response();
        }
        *counts.entry(word).or_insert(0) += 1;
    }
    let most = counts.iter().max_by_key(|&(&word, &count)| (count, word));
    most.map_or(String::new(), |(word, count)| format!("{word} {count}\n")).into_response()
}

fn bytes(body: Vec<u8>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/octet-stream")], body)
}

async fn metrics() -> impl IntoResponse {
    let mut text = String::new();
    valloc::print_stats(StatsFormat::Prometheus, &mut text).expect("a String takes all");
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

fn service() -> Router {
    Router::new()
        .route("/words", post(words))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .route("/debug/pprof/heap", get(|| async { bytes(profile::dump_pprof()) }))
        .route("/debug/pprof/allocs", get(|| async { bytes(profile::dump_pprof_all()) }))
        // pprof asks for names that it does not find in the program's file.
        .route("/debug/pprof/symbol", get(|| async { "num_symbols: 0\n" }))
        .route("/metrics", get(metrics))
}

/// The status and the body of an answer.
async fn ask(address: SocketAddr, request: &str, body: &str) -> io::Result<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let head = format!("{request} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n");
    let body = answer.split_off(end.ok_or_else(|| io::Error::other("no answer"))? + 4);
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or("").to_string();
    Ok((status, body))
}

async fn try_itself(address: SocketAddr, profiled: bool) -> io::Result<()> {
    for number in 0..200 {
        let text = format!("{}{}", "seldom ".repeat(number), "often ".repeat(number + 1));
        let (status, body) = ask(address, "POST /words", &text).await?;
        assert_eq!((status.as_str(), body), ("200", format!("often {}\n", number + 1).into()));
    }
    for path in ["/debug/pprof/heap", "/debug/pprof/allocs", "/metrics"] {
        let (status, body) = ask(address, &format!("GET {path}"), "").await?;
        assert_eq!(status, "200");
        assert!(body.len() > 500 || !profiled, "{path}: {} bytes", body.len());
        println!("{path}: {} bytes", body.len());
    }
    let many: String = (0..600_000).map(|i| format!("{i:x} ")).collect();
    let (status, _) = ask(address, "POST /words", &many).await?;
    assert_eq!(status, "413"); // more words than a request's heap may hold
    Ok(())
}

#[tokio::main]
async fn main() -> io::Result<()> {
    // Until the guard is dropped. Where valloc forwards there is no profiler.
    let guard = profile::guard(64 << 10, Mode::All).ok();
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    if address.is_some() {
        return axum::serve(listener, service()).await;
    }
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, service()).await });
    try_itself(address, guard.is_some()).await
}
