//! Targets without a port: the same functions, on the system's allocator. Also built on a target with
//! a port, by `RUSTFLAGS='--cfg valloc_forwards'`.
#![cfg(valloc_forwards)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::ControlFlow;
use std::ptr::NonNull;

use valloc::{AllocError, Heap, Stats, StatsFormat, Valloc};

#[test]
fn blocks_are_the_systems() {
    let layout = Layout::new::<[u64; 20]>();
    // SAFETY: the size is not 0; either of the two allocates for the other.
    unsafe {
        Valloc.dealloc(System.alloc(layout), layout);
        let grown = System.realloc(Valloc.alloc_zeroed(layout), layout, 1000);
        assert_eq!(*grown, 0);
        assert_eq!(valloc::usable_size(grown), 0);
        System.dealloc(grown, Layout::from_size_align(1000, layout.align()).unwrap());
    }
}

#[test]
fn statistics_say_so() {
    const { assert!(valloc::FORWARDS) };
    assert_eq!(valloc::stats(), Stats::default());
    assert!(valloc::stats().to_string().contains("no port"));
    assert_eq!((valloc::purge(), valloc::good_size(1000)), (0, 1000));
    assert!(!valloc::background_purge(true));
    assert!(valloc::version() >= 100);
    let mut text = String::new();
    valloc::print_stats(StatsFormat::Text, &mut text).unwrap();
    assert!(text.contains("no port"));
    text.clear();
    valloc::print_stats(StatsFormat::Json, &mut text).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["version"], &json["forwards"]), (&valloc::version().into(), &true.into()));
    valloc::write_stats(-1);
    let none = |_: &_| -> ControlFlow<()> { panic!("there are no classes") };
    assert!(valloc::visit_classes(none).is_continue());
    assert!(valloc::visit_caches(|_| ControlFlow::Break(())).is_continue());
}

#[test]
fn a_heap_describes_itself() {
    let heap = Heap::builder().initial_blocks(2).name(c"requests").build().unwrap();
    let _kept = heap.alloc([1u8; 100]).unwrap();
    assert!(heap.to_string().contains("'requests'"));
    assert_eq!((heap.stats().total_blocks, heap.stats().used_blocks), (2, 1));
    assert!(heap.visit_blocks(|_| ControlFlow::Break(())).is_continue());
    assert!(heap.visit_classes(|_| ControlFlow::Break(())).is_continue());
    let long = Heap::builder().name(c"a name that has more bytes than are kept").build().unwrap();
    assert!(long.to_string().contains("'a name that has more bytes than'"));
}

/// What the system's allocator has lent, where it tells.
fn in_use() -> usize {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    {
        // SAFETY: may be called at any time.
        let info = unsafe { libc::mallinfo2() };
        info.uordblks + info.hblkhd
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri))))]
    0
}

#[test]
fn dropping_a_heap_frees_everything() {
    let before = in_use();
    for _ in 0..100 {
        let heap = Heap::builder().hard_limit(2 << 20).build().unwrap();
        let first = heap.alloc_slice(&[7u8; 1 << 20]).unwrap();
        assert_eq!(heap.alloc_slice(&[7u8; 1 << 20]), Err(AllocError));
        let freed = NonNull::from(heap.alloc([3u8; 4096]).unwrap()).cast();
        let layout = Layout::new::<[u8; 4096]>();
        assert!(heap.owns(first) && heap.owns(freed.as_ptr()));
        // SAFETY: it is not used again.
        unsafe { heap.deallocate(freed, layout) };
        assert!(!heap.owns(freed.as_ptr()));
    }
    assert!(in_use() < before + (20 << 20)); // other tests allocate little
}
