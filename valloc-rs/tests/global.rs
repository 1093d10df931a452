//! Valloc as the global allocator of this test program, and driven through GlobalAlloc directly.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc;
use std::thread;

use proptest::prelude::*;
use valloc::Valloc;

#[global_allocator]
static GLOBAL: Valloc = Valloc;

/// A block that knows its layout and the byte it is filled with; freed when dropped.
struct Block {
    ptr: *mut u8,
    layout: Layout,
    fill: u8,
}

// SAFETY: a block is memory that nobody else refers to.
unsafe impl Send for Block {}

impl Block {
    fn new(size: usize, align: usize, fill: u8) -> Block {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the tests ask for sizes above 0.
        let ptr = unsafe { Valloc.alloc(layout) };
        assert!(!ptr.is_null(), "{layout:?}");
        assert_eq!(ptr as usize % align, 0, "{layout:?}");
        let mut block = Block { ptr, layout, fill };
        block.paint(fill);
        block
    }

    fn zeroed(size: usize, align: usize) -> Block {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: as above.
        let ptr = unsafe { Valloc.alloc_zeroed(layout) };
        assert!(!ptr.is_null(), "{layout:?}");
        assert_eq!(ptr as usize % align, 0, "{layout:?}");
        let block = Block { ptr, layout, fill: 0 };
        block.check(size);
        block
    }

    fn paint(&mut self, fill: u8) {
        self.fill = fill;
        // SAFETY: the block has this many bytes.
        unsafe { self.ptr.write_bytes(fill, self.layout.size()) };
    }

    fn check(&self, bytes: usize) {
        // SAFETY: painted or zeroed before.
        let contents = unsafe { std::slice::from_raw_parts(self.ptr, bytes) };
        assert!(contents.iter().all(|byte| *byte == self.fill), "{:?}", self.layout);
    }

    fn resize(&mut self, size: usize) {
        // SAFETY: the block came from Valloc with this layout; the tests ask for sizes above 0.
        let ptr = unsafe { Valloc.realloc(self.ptr, self.layout, size) };
        assert!(!ptr.is_null());
        let kept = size.min(self.layout.size());
        self.ptr = ptr;
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        assert_eq!(ptr as usize % self.layout.align(), 0);
        self.check(kept);
        let fill = self.fill;
        self.paint(fill);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.check(self.layout.size());
        // SAFETY: allocated with this layout, freed once.
        unsafe { Valloc.dealloc(self.ptr, self.layout) };
    }
}

fn sizes() -> impl Iterator<Item = usize> {
    let around = |n: usize| [n - 1, n, n + 1];
    (1..300)
        .chain((3..=25).flat_map(move |log| around(1 << log)))
        .chain((8..=20).flat_map(move |log| around(3 << (log - 1))))
}

#[test]
fn every_layout_is_aligned_and_keeps_its_contents() {
    for align in (0..=21).map(|log| 1 << log) {
        let blocks: Vec<Block> = sizes()
            .filter(|size| size + align < 1 << 23)
            .enumerate()
            .map(|(i, size)| Block::new(size, align, i as u8))
            .collect();
        drop(blocks);
    }
}

#[test]
fn zeroed_memory_is_zero_after_dirty_reuse() {
    for align in [1, 16, 64, 4096, 1 << 17] {
        for size in sizes().filter(|size| *size < 1 << 22) {
            drop(Block::new(size, align, 0xa5));
            drop(Block::zeroed(size, align));
        }
    }
}

#[test]
fn realloc_keeps_contents_and_alignment() {
    for align in [1, 16, 128, 4096, 1 << 17] {
        let mut block = Block::new(1, align, 7);
        let mut size = 1;
        while size < 40 << 20 {
            size = size * 3 / 2 + 1;
            block.resize(size);
        }
        while size > 1 {
            size = size * 2 / 3;
            block.resize(size.max(1));
        }
    }
}

#[test]
fn impossible_requests_give_null() {
    for align in [1, 64, 1 << 20] {
        let layout = Layout::from_size_align(isize::MAX as usize - align, align).unwrap();
        // SAFETY: the size is not 0.
        assert!(unsafe { Valloc.alloc(layout) }.is_null());
        // SAFETY: as above.
        assert!(unsafe { Valloc.alloc_zeroed(layout) }.is_null());
        let mut block = Block::new(100, align, 3);
        // SAFETY: the block came from Valloc with this layout.
        assert!(unsafe { Valloc.realloc(block.ptr, block.layout, layout.size()) }.is_null());
        block.resize(200);
    }
}

#[test]
fn blocks_travel_between_threads() {
    let (sender, receiver) = mpsc::sync_channel::<Block>(64);
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
    thread::scope(|scope| {
        for t in 0..4u8 {
            let sender = sender.clone();
            scope.spawn(move || {
                for i in 0..20_000usize {
                    sender.send(Block::new(1 + i * 37 % 5000, 1 << (i % 8), t)).unwrap();
                }
            });
        }
        drop(sender);
        for _ in 0..2 {
            let receiver = receiver.clone();
            scope.spawn(move || loop {
                let block = receiver.lock().unwrap().recv();
                match block {
                    Ok(block) => drop(block),
                    Err(_) => break,
                }
            });
        }
    });
}

#[test]
fn collections_in_many_threads() {
    let totals: Vec<usize> = (0..32)
        .map(|t| {
            thread::spawn(move || {
                let mut map = HashMap::new();
                let mut tree = BTreeMap::new();
                for i in 0..2_000usize {
                    map.insert(i, vec![t as u8; i % 300]);
                    tree.insert(format!("{i}-{t}"), i);
                    if i % 3 == 0 {
                        map.remove(&(i / 2));
                    }
                }
                map.values().map(Vec::len).sum::<usize>() + tree.len()
            })
        })
        .map(|thread| thread.join().unwrap())
        .collect();
    assert!(totals.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Allocates when it is dropped, which for a thread-local value is during the thread's exit.
struct Late(Vec<String>);

impl Drop for Late {
    fn drop(&mut self) {
        let texts: Vec<String> = self.0.iter().map(|text| format!("{text}!")).collect();
        assert!(texts.iter().all(|text| text.ends_with('!')));
    }
}

thread_local! {
    static LATE: RefCell<Late> = const { RefCell::new(Late(Vec::new())) };
}

#[test]
fn thread_local_destructors_may_allocate() {
    for i in 0..200 {
        thread::spawn(move || {
            LATE.with_borrow_mut(|late| late.0.extend((0..i).map(|n| n.to_string())));
        })
        .join()
        .unwrap();
    }
}

extern "C" fn allocate_at_exit() {
    let texts: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    if texts[999] != "999" {
        std::process::abort();
    }
}

#[test]
fn atexit_handlers_may_allocate() {
    // SAFETY: the handler is a function of this program.
    assert_eq!(unsafe { libc::atexit(allocate_at_exit) }, 0);
}

#[test]
fn child_processes_start() {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let output = std::process::Command::new("true").output().unwrap();
                    assert!(output.status.success());
                }
            });
        }
    });
}

#[test]
fn a_growing_vec_keeps_its_elements() {
    let mut numbers = Vec::new();
    for i in 0..6_000_000u64 {
        numbers.push(i);
    }
    assert!(numbers.iter().enumerate().all(|(i, n)| i as u64 == *n));
    numbers.truncate(1000);
    numbers.shrink_to_fit();
    assert_eq!(numbers[999], 999);
}

#[test]
#[cfg_attr(valloc_forwards, ignore = "the system has no statistics")]
fn statistics_follow_the_heap() {
    let before = valloc::stats();
    let block = Block::new(64 << 20, 16, 1);
    let during = valloc::stats();
    assert!(during.lent >= 64 << 20);
    assert!(during.committed >= during.lent);
    assert!(during.reserved >= during.committed);
    assert!(during.threads >= 1 && during.caches >= during.threads);
    drop(block);
    valloc::purge();
    assert!(valloc::stats().purged > before.purged);
}

#[derive(Clone, Debug)]
enum Operation {
    Allocate { size: usize, log_align: u32, zeroed: bool },
    Free { index: usize, elsewhere: bool },
    Resize { index: usize, size: usize },
    Refused { excess: usize, log_align: u32 },
    Purge,
}

fn any_size() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1usize..2000, 3 => 2000usize..70_000, 1 => 70_000usize..3_000_000]
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        16 => (any_size(), 0u32..14, any::<bool>())
            .prop_map(|(size, log_align, zeroed)| Operation::Allocate { size, log_align, zeroed }),
        12 => (any::<usize>(), prop::bool::weighted(0.1))
            .prop_map(|(index, elsewhere)| Operation::Free { index, elsewhere }),
        8 => (any::<usize>(), any_size())
            .prop_map(|(index, size)| Operation::Resize { index, size }),
        1 => (0usize..4096, 0u32..14)
            .prop_map(|(excess, log_align)| Operation::Refused { excess, log_align }),
        1 => Just(Operation::Purge),
    ]
}

/// The live blocks by address. A block that comes must overlap none of them.
#[derive(Default)]
struct Model {
    live: Vec<Block>,
    extents: BTreeMap<usize, usize>,
}

impl Model {
    fn enter(&mut self, block: Block) {
        let (start, end) = (block.ptr as usize, block.ptr as usize + block.layout.size());
        let below = self.extents.range(..end).next_back();
        assert!(below.map_or(true, |(_, &below_end)| below_end <= start), "blocks overlap");
        self.extents.insert(start, end);
        self.live.push(block);
    }

    fn leave(&mut self, index: usize) -> Option<Block> {
        if self.live.is_empty() {
            return None;
        }
        let block = self.live.swap_remove(index % self.live.len());
        self.extents.remove(&(block.ptr as usize));
        Some(block)
    }
}

/// What no allocator can serve is refused, and what is live stays as it is.
fn is_refused(model: &Model, excess: usize, log_align: u32) {
    let align = 1 << log_align;
    let size = isize::MAX as usize - align + 1 - excess;
    let layout = Layout::from_size_align(size, align).unwrap();
    // SAFETY: the size is not 0.
    assert!(unsafe { Valloc.alloc(layout) }.is_null());
    if let Some(block) = model.live.first() {
        if block.layout.align() <= align {
            // SAFETY: the block came from Valloc with this layout.
            assert!(unsafe { Valloc.realloc(block.ptr, block.layout, size) }.is_null());
        }
        block.check(block.layout.size());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Blocks overlap no other, are aligned and zeroed as asked for, and keep what they hold until
    /// they are freed, by whichever thread.
    #[test]
    fn random_operations_do_as_a_naive_model(
        operations in prop::collection::vec(any_operation(), 1..400),
    ) {
        let mut model = Model::default();
        for (i, operation) in operations.into_iter().enumerate() {
            match operation {
                Operation::Allocate { size, log_align, zeroed } => {
                    let mut block = if zeroed {
                        Block::zeroed(size, 1 << log_align)
                    } else {
                        Block::new(size, 1 << log_align, 0)
                    };
                    block.paint(i as u8);
                    model.enter(block);
                }
                Operation::Free { index, elsewhere } => {
                    let block = model.leave(index);
                    if elsewhere {
                        thread::spawn(move || drop(block)).join().unwrap();
                    }
                }
                Operation::Resize { index, size } => {
                    if let Some(mut block) = model.leave(index) {
                        block.resize(size);
                        model.enter(block);
                    }
                }
                Operation::Refused { excess, log_align } => is_refused(&model, excess, log_align),
                Operation::Purge => {
                    valloc::purge();
                    model.live.iter().for_each(|block| block.check(block.layout.size()));
                }
            }
        }
    }
}
