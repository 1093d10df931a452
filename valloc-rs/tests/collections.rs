//! Collections in a heap, by the crate allocator-api2; what must not compile.

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use hashbrown::{DefaultHashBuilder, HashMap};
use valloc::Heap;

#[test]
fn vectors_grow_and_shrink() {
    let heap = Heap::new().unwrap();
    let mut numbers = Vec::new_in(&heap);
    for i in 0..300_000u64 {
        numbers.push(i);
    }
    assert!(heap.owns(numbers.as_ptr()));
    numbers.truncate(10);
    numbers.shrink_to_fit();
    assert_eq!(numbers.iter().sum::<u64>(), 45);
    let mut zeros: Vec<u8, _> = Vec::new_in(&heap);
    zeros.resize(100_000, 0);
    assert!(zeros.iter().all(|&byte| byte == 0));
}

#[test]
fn maps_of_strings() {
    let heap = Heap::new().unwrap();
    let mut map: HashMap<Box<str, &Heap>, usize, DefaultHashBuilder, &Heap> =
        HashMap::with_hasher_in(DefaultHashBuilder::default(), &heap);
    for i in 0..10_000usize {
        let mut key = Vec::new_in(&heap);
        key.extend_from_slice(format!("key {i}").as_bytes());
        let key = key.into_boxed_slice();
        // SAFETY: the bytes are those of a str, and the box keeps its allocator.
        let key = unsafe {
            let (raw, heap) = Box::into_raw_with_allocator(key);
            Box::from_raw_in(raw as *mut str, heap)
        };
        map.insert(key, i);
    }
    for i in (0..10_000usize).step_by(2) {
        assert_eq!(map.remove(format!("key {i}").as_str()), Some(i));
    }
    assert_eq!(map.len(), 5000);
    assert_eq!(map.get("key 4999"), Some(&4999));
}

#[test]
fn a_collection_may_own_its_heap() {
    let mut owner = Vec::new_in(Heap::new().unwrap());
    owner.extend(0..1000);
    let moved = owner;
    assert_eq!(moved.iter().sum::<i32>(), 499_500);
    assert!(moved.allocator().owns(moved.as_ptr()));
}

#[test]
fn growing_zeroed_clears_the_tail() {
    use std::alloc::Layout;
    let heap = Heap::new().unwrap();
    let (old, new) = (Layout::array::<u8>(100).unwrap(), Layout::array::<u8>(5000).unwrap());
    for _ in 0..100 {
        let block = heap.allocate(old).unwrap();
        // SAFETY: the block has this layout until it is grown to the new one.
        unsafe {
            block.cast::<u8>().as_ptr().write_bytes(7, 100);
            let grown = Allocator::grow_zeroed(&heap, block.cast(), old, new).unwrap();
            let bytes = grown.as_ref();
            assert!(bytes[..100].iter().all(|&byte| byte == 7));
            assert!(bytes[100..].iter().all(|&byte| byte == 0));
            grown.cast::<u8>().as_ptr().write_bytes(9, 5000);
            Allocator::deallocate(&heap, grown.cast(), new);
        }
    }
}

#[test]
fn nothing_outlives_its_heap() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
