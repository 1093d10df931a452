//! Criterion: one group per pattern and size, every allocator in the same run.

use criterion::measurement::WallTime;
use criterion::{
    criterion_group, criterion_main, BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput,
};
use std::hint::black_box;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use valloc_benches::{
    human_size, layout, with_contender, Contender, Random, Shared, Visitor, NAMES,
};

/// A pattern, measured for each contender in turn.
trait Pattern: Copy {
    fn measure<C: Contender>(self, group: &mut BenchmarkGroup<'_, WallTime>);
}

struct Measure<'a, 'b, P>(&'a mut BenchmarkGroup<'b, WallTime>, P);

impl<P: Pattern> Visitor for Measure<'_, '_, P> {
    type Out = ();

    fn visit<C: Contender>(self) {
        self.1.measure::<C>(self.0);
    }
}

fn run(criterion: &mut Criterion, name: String, operations: u64, pattern: impl Pattern) {
    let mut group = criterion.benchmark_group(name);
    group
        .throughput(Throughput::Elements(operations))
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .sample_size(20);
    for name in NAMES.iter().filter(|name| **name != "calloc") {
        with_contender(name, Measure(&mut group, pattern));
    }
    group.finish();
}

fn id<C: Contender>() -> BenchmarkId {
    BenchmarkId::from_parameter(C::NAME)
}

/// Allocates one block, writes one byte of it and frees it.
#[derive(Clone, Copy)]
struct Pair(usize);

impl Pattern for Pair {
    fn measure<C: Contender>(self, group: &mut BenchmarkGroup<'_, WallTime>) {
        let layout = layout(self.0);
        group.bench_function(id::<C>(), |bencher| {
            bencher.iter(|| {
                // SAFETY: freed with the layout it was allocated with, after one write inside.
                unsafe {
                    let block = black_box(C::get().alloc(layout));
                    block.write(1);
                    C::get().dealloc(black_box(block), layout);
                }
            });
        });
    }
}

#[derive(Clone, Copy)]
enum Order {
    Allocated,
    Reverse,
    Random,
}

/// Allocates many blocks, then frees them all in an order.
#[derive(Clone, Copy)]
struct Bulk(usize, usize, Order);

impl Pattern for Bulk {
    fn measure<C: Contender>(self, group: &mut BenchmarkGroup<'_, WallTime>) {
        let Self(size, count, order) = self;
        let layout = layout(size);
        let mut turns: Vec<usize> = (0..count).collect();
        match order {
            Order::Allocated => {}
            Order::Reverse => turns.reverse(),
            Order::Random => Random(42).shuffle(&mut turns),
        }
        let mut blocks = vec![std::ptr::null_mut::<u8>(); count];
        group.bench_function(id::<C>(), |bencher| {
            bencher.iter(|| {
                for block in &mut blocks {
                    // SAFETY: written inside its size.
                    unsafe {
                        *block = C::get().alloc(layout);
                        block.write(1);
                    }
                }
                for &turn in &turns {
                    // SAFETY: each turn frees another block of those just allocated.
                    unsafe { C::get().dealloc(black_box(blocks[turn]), layout) };
                }
            });
        });
    }
}

/// Replaces random blocks among many live ones of 16 B to 1 KiB.
#[derive(Clone, Copy)]
struct Replace(usize);

const REPLACED: usize = 1000;

impl Pattern for Replace {
    fn measure<C: Contender>(self, group: &mut BenchmarkGroup<'_, WallTime>) {
        let mut random = Random(7);
        let allocate = |random: &mut Random| {
            let layout = layout(16 + random.below(1009));
            // SAFETY: written inside its size.
            unsafe {
                let block = C::get().alloc(layout);
                block.write(1);
                (block, layout)
            }
        };
        let mut live: Vec<_> = (0..self.0).map(|_| allocate(&mut random)).collect();
        group.bench_function(id::<C>(), |bencher| {
            bencher.iter(|| {
                for _ in 0..REPLACED {
                    let place = random.below(live.len());
                    let (block, layout) = live[place];
                    // SAFETY: what stands in its place is live.
                    unsafe { C::get().dealloc(block, layout) };
                    live[place] = allocate(&mut random);
                }
            });
        });
        for (block, layout) in live {
            // SAFETY: as above.
            unsafe { C::get().dealloc(block, layout) };
        }
    }
}

/// A vector of bytes that doubles by realloc up to a size. Every new part is written.
#[derive(Clone, Copy)]
struct Growth(usize);

impl Pattern for Growth {
    fn measure<C: Contender>(self, group: &mut BenchmarkGroup<'_, WallTime>) {
        group.bench_function(id::<C>(), |bencher| {
            bencher.iter(|| {
                let mut size = 64;
                // SAFETY: layouts follow the sizes; writes stay inside.
                unsafe {
                    let mut block = C::get().alloc(layout(size));
                    block.write_bytes(1, size);
                    while size < self.0 {
                        block = C::get().realloc(block, layout(size), 2 * size);
                        block.add(size).write_bytes(1, size);
                        size *= 2;
                    }
                    C::get().dealloc(black_box(block), layout(size));
                }
            });
        });
    }
}

/// Blocks allocated by one thread and freed by another, passed on in batches.
#[derive(Clone, Copy)]
struct CrossThread(usize);

const BATCH: usize = 1000;

impl Pattern for CrossThread {
    fn measure<C: Contender>(self, group: &mut BenchmarkGroup<'_, WallTime>) {
        let layout = layout(self.0);
        let (to_other, batches) = sync_channel::<Vec<Shared>>(4);
        let (to_us, empties) = sync_channel::<Vec<Shared>>(8);
        for _ in 0..5 {
            let _ = to_us.send(Vec::with_capacity(BATCH));
        }
        let other = std::thread::spawn(move || {
            for mut batch in batches {
                for block in batch.drain(..) {
                    // SAFETY: the sender gave the block away.
                    unsafe { C::get().dealloc(block.0, layout) };
                }
                let _ = to_us.send(batch);
            }
        });
        group.bench_function(id::<C>(), |bencher| {
            bencher.iter_batched(
                || empties.recv().expect("the other thread gives them back"),
                |mut batch| {
                    batch.extend((0..BATCH).map(|_| {
                        // SAFETY: written inside its size.
                        unsafe {
                            let block = C::get().alloc(layout);
                            block.write(1);
                            Shared(block)
                        }
                    }));
                    to_other.send(batch).expect("the other thread waits");
                },
                BatchSize::PerIteration,
            );
        });
        drop(to_other);
        drop(empties);
        other.join().expect("it only frees");
    }
}

fn patterns(criterion: &mut Criterion) {
    for log in (3..=25).step_by(2) {
        let size = 1 << log;
        run(criterion, format!("pair/{}", human_size(size)), 1, Pair(size));
    }
    for size in [16, 64, 256, 2048] {
        for (order, name) in
            [(Order::Allocated, "in order"), (Order::Reverse, "reverse"), (Order::Random, "random")]
        {
            let count = 100_000;
            let name = format!("bulk {name}/{}", human_size(size));
            run(criterion, name, count as u64, Bulk(size, count, order));
        }
    }
    for live in [1000, 100_000, 1_000_000] {
        run(criterion, format!("replace/{live} live"), REPLACED as u64, Replace(live));
    }
    for size in [1 << 16, 1 << 20, 1 << 26] {
        run(criterion, format!("growth/{}", human_size(size)), 1, Growth(size));
    }
    for size in [64, 1024, 16384] {
        run(
            criterion,
            format!("cross-thread/{}", human_size(size)),
            BATCH as u64,
            CrossThread(size),
        );
    }
}

criterion_group!(benches, patterns);
criterion_main!(benches);
