//! Heaps: their life, limits and introspection; random work against a naive model.

use std::alloc::Layout;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::sync::mpsc;
use std::thread;

use proptest::prelude::*;
use valloc::{AllocError, Heap, HeapError, BLOCK_BYTES};

#[global_allocator]
static GLOBAL: valloc::Valloc = valloc::Valloc;

const MIB: usize = 1 << 20;

#[test]
fn contradictory_options_are_refused() {
    let refused = |builder: valloc::HeapBuilder| builder.build().expect_err("refused");
    assert_eq!(refused(Heap::builder().initial_blocks(0)), HeapError::Invalid);
    assert_eq!(refused(Heap::builder().threads(0)), HeapError::Invalid);
    assert_eq!(refused(Heap::builder().threads(65537)), HeapError::Invalid);
    assert_eq!(refused(Heap::builder().threads(usize::MAX)), HeapError::Invalid);
    assert_eq!(
        refused(Heap::builder().initial_blocks(3).hard_limit(2 * BLOCK_BYTES)),
        HeapError::Invalid
    );
    assert_eq!(
        refused(Heap::builder().soft_limit(4 * MIB).hard_limit(2 * MIB)),
        HeapError::Invalid
    );
    assert_eq!(refused(Heap::builder().initial_blocks(usize::MAX)), HeapError::NoMemory);
    assert!(HeapError::NoMemory.to_string().contains("out of memory"));
}

#[test]
fn a_heap_can_be_moved_and_sent() {
    let heap = Heap::builder().initial_blocks(2).threads(1).build().unwrap();
    assert_eq!(heap.stats().total_blocks, 2);
    let moved = Box::new(heap);
    let length = thread::spawn(move || moved.alloc_str("sent").unwrap().len()).join().unwrap();
    assert_eq!(length, 4);
}

#[test]
fn many_threads_share_a_heap() {
    let heap = Heap::builder().threads(3).build().unwrap();
    let (sender, receiver) = mpsc::channel::<&mut [u64]>();
    thread::scope(|scope| {
        for seed in 0..6u64 {
            let (heap, sender) = (&heap, sender.clone());
            scope.spawn(move || {
                for i in 0..2000 {
                    let length = (seed * 31 + i) % 97 + 1;
                    let block =
                        heap.alloc_slice(&vec![seed * 10_000 + i; length as usize]).unwrap();
                    sender.send(block).unwrap();
                }
            });
        }
        drop(sender);
        for block in receiver {
            assert!(block.iter().all(|&value| value == block[0]));
            assert!(heap.owns(block));
            let layout = Layout::for_value(block);
            // SAFETY: it came from this heap, and is not used again.
            unsafe { heap.deallocate(NonNull::from(block).cast(), layout) };
        }
    });
}

#[test]
fn zero_sizes_and_alignments() {
    let heap = Heap::new().unwrap();
    heap.alloc(()).unwrap();
    assert!(heap.alloc_slice::<u64>(&[]).unwrap().is_empty());
    #[repr(align(8192))]
    struct Aligned(u8);
    for i in 0..100 {
        let aligned = heap.alloc(Aligned(i)).unwrap();
        assert_eq!(std::ptr::from_mut(aligned) as usize % 8192, 0);
        assert_eq!(aligned.0, i);
    }
    let zeroed = heap.allocate_zeroed(Layout::from_size_align(100_000, 4096).unwrap()).unwrap();
    // SAFETY: as large as asked for, and zeroed.
    assert!(unsafe { zeroed.as_ref() }.iter().all(|&byte| byte == 0));
}

#[test]
fn limits_hold_and_can_be_changed() {
    let heap = Heap::builder().hard_limit(4 * MIB).build().unwrap();
    let layout = Layout::array::<u8>(3 * MIB).unwrap();
    let first = heap.allocate(layout).unwrap();
    assert_eq!(heap.allocate(layout), Err(AllocError));
    // SAFETY: it came from this heap.
    unsafe { heap.deallocate(first.cast(), layout) };
    let again = heap.allocate(layout).unwrap();
    // SAFETY: as above.
    unsafe { heap.deallocate(again.cast(), layout) };
    assert_eq!(heap.set_limits(Some(2 * MIB), Some(MIB)), Err(HeapError::Invalid));
    heap.set_limits(None, None).unwrap();
    heap.allocate(Layout::array::<u8>(100 * MIB).unwrap()).unwrap();
    heap.set_limits(None, Some(0)).unwrap();
    assert_eq!(heap.allocate(Layout::array::<u8>(5 * MIB).unwrap()), Err(AllocError));
}

#[test]
#[cfg_attr(valloc_forwards, ignore = "the system has no statistics")]
fn blocks_and_descriptions() {
    let heap = Heap::builder().initial_blocks(4).name(c"described").build().unwrap();
    for i in 0..1000u32 {
        heap.alloc([i; 64]).unwrap();
    }
    let (mut size, mut live) = (0, 0);
    assert!(heap
        .visit_blocks(|block| {
            size += block.size;
            live += block.live_slots;
            ControlFlow::Continue(())
        })
        .is_continue());
    assert_eq!(live, 1000);
    assert_eq!(size, heap.stats().total_blocks * BLOCK_BYTES);
    assert!(heap.visit_blocks(|_| ControlFlow::Break(())).is_break());
    let text = heap.to_string();
    assert!(text.contains("allocator 'described'") && text.contains("1000"), "{text}");
    assert!(format!("{heap:?}").contains("total_blocks"));
    assert!(!heap.owns(&text));
}

#[derive(Clone, Debug)]
enum Op {
    Allocate { size: usize, align_shift: u32, zeroed: bool },
    Free { index: usize, globally: bool },
    Resize { index: usize, size: usize, align_shift: u32 },
    Renew,
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..200usize, 4 => 200..5000usize, 2 => 5000..100_000usize, 1 => 1..3 * MIB]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (size(), 0..14u32, any::<bool>())
            .prop_map(|(size, align_shift, zeroed)| Op::Allocate { size, align_shift, zeroed }),
        6 => (any::<usize>(), any::<bool>())
            .prop_map(|(index, globally)| Op::Free { index, globally }),
        6 => (any::<usize>(), size(), 0..14u32)
            .prop_map(|(index, size, align_shift)| Op::Resize { index, size, align_shift }),
        1 => Just(Op::Renew),
    ]
}

/// What the model knows of a block: where it is, its layout, the byte that fills it.
struct Held {
    block: NonNull<u8>,
    layout: Layout,
    fill: u8,
}

impl Held {
    fn new(memory: NonNull<[u8]>, layout: Layout, fill: u8) -> Self {
        assert_eq!(memory.len(), layout.size());
        assert_eq!(memory.cast::<u8>().as_ptr() as usize % layout.align(), 0);
        // SAFETY: as large as its length says.
        unsafe { memory.cast::<u8>().as_ptr().write_bytes(fill, memory.len()) };
        Held { block: memory.cast(), layout, fill }
    }

    fn holds(&self, length: usize) -> bool {
        // SAFETY: the block is live, and at least as long.
        let bytes = unsafe { std::slice::from_raw_parts(self.block.as_ptr(), length) };
        bytes.iter().all(|&byte| byte == self.fill)
    }

    fn pages(&self) -> impl Iterator<Item = usize> {
        let start = self.block.as_ptr() as usize;
        (start / 16)..(start + self.layout.size()).div_ceil(16)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_heap_does_as_a_naive_model(ops in prop::collection::vec(op(), 1..300)) {
        let mut heap = Heap::new().unwrap();
        let mut held: Vec<Held> = Vec::new();
        for (number, op) in ops.into_iter().enumerate() {
            let fill = number as u8 | 1;
            match op {
                Op::Allocate { size, align_shift, zeroed } => {
                    let layout = Layout::from_size_align(size, 1 << align_shift).unwrap();
                    let memory = if zeroed {
                        heap.allocate_zeroed(layout).unwrap()
                    } else {
                        heap.allocate(layout).unwrap()
                    };
                    if zeroed {
                        // SAFETY: as large as its length says.
                        let bytes = unsafe { memory.as_ref() };
                        prop_assert!(bytes.iter().all(|&byte| byte == 0));
                    }
                    held.push(Held::new(memory, layout, fill));
                }
                Op::Free { index, globally } if !held.is_empty() => {
                    let old = held.swap_remove(index % held.len());
                    prop_assert!(old.holds(old.layout.size()));
                    // SAFETY: it came from this heap with this layout; any function of a port may free it.
                    unsafe {
                        if globally && old.layout.size() != 0 && !valloc::FORWARDS {
                            std::alloc::dealloc(old.block.as_ptr(), old.layout);
                        } else {
                            heap.deallocate(old.block, old.layout);
                        }
                    }
                }
                Op::Resize { index, size, align_shift } if !held.is_empty() => {
                    let index = index % held.len();
                    let old = held.swap_remove(index);
                    let layout = Layout::from_size_align(size, 1 << align_shift).unwrap();
                    // SAFETY: it came from this heap with this layout.
                    let memory = unsafe { heap.reallocate(old.block, old.layout, layout) }.unwrap();
                    let kept = size.min(old.layout.size());
                    let moved = Held { block: memory.cast(), layout, fill: old.fill };
                    prop_assert!(moved.holds(kept));
                    held.push(Held::new(memory, layout, fill));
                }
                Op::Renew => {
                    prop_assert!(held.iter().all(|one| one.holds(one.layout.size())));
                    held.clear();
                    heap = Heap::new().unwrap();
                }
                Op::Free { .. } | Op::Resize { .. } => {}
            }
        }
        let mut taken = HashSet::new();
        for one in &held {
            prop_assert!(one.holds(one.layout.size()));
            if one.layout.size() != 0 {
                prop_assert!(heap.owns(one.block.as_ptr()));
                prop_assert!(one.pages().all(|unit| taken.insert(unit)), "blocks overlap");
            }
        }
    }
}

#[test]
#[cfg_attr(valloc_forwards, ignore = "the system has no statistics")]
fn classes_add_up_to_what_is_allocated() {
    let heap = Heap::new().unwrap();
    let small: Vec<_> = (0..1000).map(|i| heap.alloc([i; 25]).unwrap()).collect();
    let large = heap.alloc_slice(&[7u8; 5 << 20]).unwrap();
    let mut rows = Vec::new();
    assert!(heap
        .visit_classes(|class| {
            assert_eq!(class.slots, class.live + class.cached + class.free_slots);
            rows.push(*class);
            ControlFlow::Continue(())
        })
        .is_continue());
    assert_eq!((rows[0].slot_size, rows[0].live, rows[0].live_bytes), (112, 1000, 112_000));
    // A canary and a guard page follow in secure builds.
    let more = if cfg!(feature = "secure") { valloc::BLOCK_BYTES } else { 0 };
    let large_bytes = (5 << 20) + more;
    assert_eq!((rows[1].slot_size, rows[1].live, rows[1].live_bytes), (0, 1, large_bytes));
    assert_eq!((rows.len(), small.len(), large.len()), (2, 1000, 5 << 20));
    let mut visited = 0;
    let flow = heap.visit_classes(|_| {
        visited += 1;
        ControlFlow::Break(())
    });
    assert_eq!((flow, visited), (ControlFlow::Break(()), 1));
}

#[test]
#[cfg_attr(valloc_forwards, ignore = "the system has no statistics")]
fn statistics_as_figures_text_and_json() {
    let heap = Heap::new().unwrap();
    let _kept = heap.alloc([1u8; 100]).unwrap();
    let stats = valloc::stats();
    assert_eq!(
        stats.lent,
        stats.live + stats.cached + stats.free_slots + stats.spare + stats.slack
    );
    assert!(stats.live >= 112 && stats.caches >= 1 && stats.to_string().contains("\nlive  "));
    let mut text = String::new();
    valloc::print_stats(valloc::StatsFormat::Text, &mut text).unwrap();
    assert!(text.contains("\n slot size    blocks"));
    text.clear();
    valloc::print_stats(valloc::StatsFormat::Json, &mut text).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["version"], valloc::version());
    let classes = json["classes"].as_array().unwrap();
    let live: u64 = classes.iter().map(|class| class["live_bytes"].as_u64().unwrap()).sum();
    assert_eq!(json["live"].as_u64().unwrap(), live);
    let mut caches = 0;
    let _ = valloc::visit_caches(|cache| {
        assert!(cache.id > 0);
        caches += 1;
        ControlFlow::Continue(())
    });
    assert!(caches >= stats.caches);
    valloc::write_stats(-1);
}
