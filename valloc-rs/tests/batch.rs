//! Batches of the process and of heaps.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use valloc::{allocate_batch, deallocate_batch, AllocError, Heap, Valloc};

#[global_allocator]
static GLOBAL: Valloc = Valloc;

fn layouts() -> impl Iterator<Item = Layout> {
    [(1, 1), (16, 8), (64, 8), (100, 4), (100, 64), (4096, 4096), (40_000, 16), (3 << 20, 32)]
        .into_iter()
        .map(|(size, align)| Layout::from_size_align(size, align).unwrap())
}

fn check(blocks: &[NonNull<u8>], layout: Layout) {
    let distinct: HashSet<_> = blocks.iter().collect();
    assert_eq!(distinct.len(), blocks.len());
    for (i, block) in blocks.iter().enumerate() {
        assert_eq!(block.as_ptr() as usize % layout.align(), 0);
        // SAFETY: the block has so many bytes.
        unsafe { block.as_ptr().write_bytes(i as u8, layout.size()) };
    }
    for (i, block) in blocks.iter().enumerate() {
        // SAFETY: as above.
        unsafe {
            assert_eq!(*block.as_ptr(), i as u8);
            assert_eq!(*block.as_ptr().add(layout.size() - 1), i as u8);
        }
    }
}

#[test]
fn of_the_process() {
    for layout in layouts() {
        for count in [0, 1, 9, 100] {
            let mut places = vec![MaybeUninit::uninit(); count];
            let blocks = allocate_batch(layout, &mut places).unwrap();
            assert_eq!(blocks.len(), count);
            check(blocks, layout);
            let (one_by_one, others) = blocks.split_at(count / 3);
            // SAFETY: all have this layout, and are not used again.
            unsafe {
                one_by_one.iter().for_each(|block| Valloc.dealloc(block.as_ptr(), layout));
                deallocate_batch(others, layout);
            }
        }
    }
}

#[test]
fn of_a_heap() {
    let heap = Heap::new().unwrap();
    for layout in layouts() {
        let mut places = [MaybeUninit::uninit(); 50];
        let blocks = heap.allocate_batch(layout, &mut places).unwrap();
        check(blocks, layout);
        assert!(blocks.iter().all(|block| heap.owns(block.as_ptr())));
        // SAFETY: all have this layout, and are not used again.
        unsafe { heap.deallocate_batch(&blocks[..40], layout) };
    }
}

#[test]
fn of_no_bytes() {
    let layout = Layout::from_size_align(0, 64).unwrap();
    let mut places = [MaybeUninit::uninit(); 3];
    let blocks = allocate_batch(layout, &mut places).unwrap();
    assert!(blocks.iter().all(|block| block.as_ptr() as usize == 64));
    // SAFETY: they have this layout.
    unsafe { deallocate_batch(blocks, layout) };
}

#[test]
fn all_or_none() {
    let heap = Heap::builder().hard_limit(1 << 20).build().unwrap();
    for align in [8, 64] {
        let layout = Layout::from_size_align(1000, align).unwrap();
        let mut places = [MaybeUninit::uninit(); 2000];
        for _ in 0..3 {
            assert_eq!(heap.allocate_batch(layout, &mut places), Err(AllocError));
            let blocks = heap.allocate_batch(layout, &mut places[..800]).unwrap();
            // SAFETY: all have this layout, and are not used again.
            unsafe { heap.deallocate_batch(blocks, layout) };
        }
    }
}
