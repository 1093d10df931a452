//! One allocator, measured in this process.

use crate::{Options, Sample};
use anyhow::{Context, Result};
use std::hint::black_box;
use std::sync::{Barrier, Mutex};
use std::time::Instant;
use valloc_benches::{layout, status_kib, with_contender, Contender, Visitor};

/// The most memory that all threads' blocks may take at a time. Larger sizes get fewer allocations.
const LIVE_BYTES: usize = 128 << 20;

pub fn run(name: &str, options: &Options) -> Result<()> {
    with_contender(name, Child(options)).context("there is no allocator of this name")?
}

struct Child<'a>(&'a Options);

impl Visitor for Child<'_> {
    type Out = Result<()>;

    fn visit<C: Contender>(self) -> Result<()> {
        // The samples of all threads go to one CSV under a mutex.
        let csv = Mutex::new(csv::Writer::from_writer(std::io::stdout().lock()));
        for &threads in &self.0.threads {
            for &filled in &self.0.filled {
                for size in self.0.sizes() {
                    let allocations = self.0.allocations.min((LIVE_BYTES / threads / size).max(1));
                    for iteration in 0..self.0.iterations {
                        let sample = iterate::<C>(size, allocations, threads, filled);
                        let mut csv = csv.lock().unwrap_or_else(|e| e.into_inner());
                        csv.serialize(Sample { iteration, ..sample })?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Seconds that a thread spent in each phase.
#[derive(Default, Clone, Copy)]
struct Phases {
    alloc: f64,
    fill: f64,
    free: f64,
}

/// One iteration: all threads allocate, fill and free, phase by phase.
fn iterate<C: Contender>(size: usize, allocations: usize, threads: usize, filled: bool) -> Sample {
    let barrier = Barrier::new(threads);
    let sums = Mutex::new((Phases::default(), 0));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (barrier, sums) = (&barrier, &sums);
            scope.spawn(move || {
                let (phases, resident) = work::<C>(size, allocations, thread, filled, barrier);
                let mut sums = sums.lock().unwrap_or_else(|e| e.into_inner());
                sums.0.alloc += phases.alloc;
                sums.0.fill += phases.fill;
                sums.0.free += phases.free;
                sums.1 = sums.1.max(resident);
            });
        }
    });
    let (phases, resident_kib) = sums.into_inner().unwrap_or_else(|e| e.into_inner());
    let per_operation = 1e9 / (threads * allocations) as f64;
    Sample {
        allocator: C::NAME.to_owned(),
        size,
        threads,
        filled,
        round: 0,
        iteration: 0,
        allocations,
        alloc_ns: phases.alloc * per_operation,
        fill_ns: phases.fill * per_operation,
        free_ns: phases.free * per_operation,
        resident_kib,
    }
}

fn work<C: Contender>(
    size: usize,
    allocations: usize,
    thread: usize,
    filled: bool,
    barrier: &Barrier,
) -> (Phases, u64) {
    let allocator = C::get();
    let layout = layout(size);
    // Not null, so that the table's own pages are written, and resident, before the clock starts.
    let mut blocks: Vec<*mut u8> = vec![std::ptr::NonNull::dangling().as_ptr(); allocations];
    barrier.wait();
    let start = Instant::now();
    for block in &mut blocks {
        // SAFETY: the size is not zero.
        *block = black_box(unsafe { allocator.obtain(layout) });
    }
    let allocated = Instant::now();
    for &block in &blocks {
        assert!(!block.is_null(), "{} has no {size} bytes", C::NAME);
        if filled {
            // SAFETY: the block has `size` bytes.
            unsafe { block.write_bytes(thread as u8, size) };
            black_box(block);
        }
    }
    let fill_end = Instant::now();
    barrier.wait();
    let resident = if thread == 0 { status_kib("VmRSS:") } else { 0 };
    barrier.wait();
    let free_start = Instant::now();
    for &block in &blocks {
        // SAFETY: allocated above with this layout.
        unsafe { allocator.dealloc(black_box(block), layout) };
    }
    let freed = Instant::now();
    let phases = Phases {
        alloc: (allocated - start).as_secs_f64(),
        fill: if filled { (fill_end - allocated).as_secs_f64() } else { 0.0 },
        free: (freed - free_start).as_secs_f64(),
    };
    (phases, resident)
}
