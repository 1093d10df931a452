//! The compared allocators, behind one trait.
//!
//! Several can be used in one process, because each has its own heaps. Each is called through its
//! `GlobalAlloc` by static dispatch, as in a Rust program.

use crate::original::Original;
use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeSet;
use std::ffi::CStr;

/// An allocator under comparison.
pub trait Contender: GlobalAlloc + Sync + 'static {
    const NAME: &'static str;
    fn get() -> &'static Self;

    /// Allocates as users of this allocator do: zeroed for `calloc`.
    ///
    /// # Safety
    /// As `GlobalAlloc::alloc`.
    #[inline(always)]
    unsafe fn obtain(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.alloc(layout) }
    }

    /// Purges by the allocator's own function.
    fn purge() {}

    /// Starts its background thread, if it has one.
    fn start_background() {}
}

/// The system's malloc and free, called directly.
pub struct Malloc;

// SAFETY: malloc's contract covers alignments up to 16, the only ones asked for here.
unsafe impl GlobalAlloc for Malloc {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        debug_assert!(layout.align() <= 16);
        // SAFETY: any size may be asked for.
        unsafe { libc::malloc(layout.size()).cast() }
    }

    #[inline(always)]
    unsafe fn dealloc(&self, ptr: *mut u8, _: Layout) {
        // SAFETY: the caller got ptr from alloc above.
        unsafe { libc::free(ptr.cast()) }
    }

    #[inline(always)]
    unsafe fn realloc(&self, ptr: *mut u8, _: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for dealloc.
        unsafe { libc::realloc(ptr.cast(), size).cast() }
    }
}

/// The system's calloc and free.
pub struct Calloc;

// SAFETY: as for Malloc.
unsafe impl GlobalAlloc for Calloc {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { libc::calloc(1, layout.size()).cast() }
    }

    #[inline(always)]
    unsafe fn dealloc(&self, ptr: *mut u8, _: Layout) {
        // SAFETY: the caller got ptr from alloc above.
        unsafe { libc::free(ptr.cast()) }
    }
}

macro_rules! contenders {
    ($($type:ty, $value:expr, $name:literal, $purge:expr, $background:expr;)*) => {
        $(impl Contender for $type {
            const NAME: &'static str = $name;
            #[inline(always)]
            fn get() -> &'static Self {
                static ONE: $type = $value;
                &ONE
            }
            fn purge() {
                $purge
            }
            fn start_background() {
                $background
            }
        })*

        /// Calls a generic function with the contender of this name as its type.
        pub fn with_contender<V: Visitor>(name: &str, visitor: V) -> Option<V::Out> {
            match name {
                $($name => Some(visitor.visit::<$type>()),)*
                _ => None,
            }
        }
    };
}

/// Their names, in the order of tables; `original` only on request.
pub const NAMES: &[&str] = &["malloc", "calloc", "valloc", "mimalloc", "jemalloc", "snmalloc"];

/// The names of all contenders.
pub fn known() -> impl Iterator<Item = &'static str> {
    NAMES.iter().copied().chain(["original"])
}

/// The names that occur, without duplicates, in the order of tables.
pub fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let occurring: BTreeSet<&str> = names.collect();
    let mut order: Vec<_> = known().filter(|name| occurring.contains(name)).collect();
    order.extend(occurring.iter().filter(|name| !NAMES.contains(name) && **name != "original"));
    order.into_iter().map(str::to_owned).collect()
}

/// A function that is generic over the contender.
pub trait Visitor {
    type Out;
    fn visit<C: Contender>(self) -> Self::Out;
}

contenders! {
    Malloc, Malloc, "malloc", trim(), ();
    Calloc, Calloc, "calloc", trim(), ();
    valloc::Valloc, valloc::Valloc, "valloc", give_back(), assert!(valloc::background_purge(true));
    mimalloc::MiMalloc, mimalloc::MiMalloc, "mimalloc", collect(), ();
    tikv_jemallocator::Jemalloc, tikv_jemallocator::Jemalloc, "jemalloc",
        command(c"arena.4096.purge"), decay_in_background(); // 4096: all (MALLCTL_ARENAS_ALL)
    // Its crate has no call that gives memory back.
    snmalloc_rs::SnMalloc, snmalloc_rs::SnMalloc, "snmalloc", (), ();
    Original, Original, "original", (), ();
}

fn give_back() {
    valloc::purge();
}

fn trim() {
    // SAFETY: it may be called at any time.
    unsafe { libc::malloc_trim(0) };
}

fn collect() {
    // SAFETY: as above.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// A command of jemalloc that takes and returns no value.
fn command(name: &CStr) {
    let none = std::ptr::null_mut();
    // SAFETY: the promise above.
    unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), none, none.cast(), none, 0) };
}

/// Sets a value of jemalloc's.
fn set<T>(name: &CStr, mut value: T) {
    let none = std::ptr::null_mut();
    let new = std::ptr::from_mut(&mut value).cast();
    // SAFETY: it reads as many bytes as the value has, and refuses another number.
    let error = unsafe {
        tikv_jemalloc_sys::mallctl(name.as_ptr(), none, none.cast(), new, size_of::<T>())
    };
    assert_eq!(error, 0, "jemalloc refuses {name:?}");
}

/// jemalloc's background thread, with valloc's delay. Its default of ten seconds exceeds the test.
fn decay_in_background() {
    set(c"arena.0.dirty_decay_ms", 200isize);
    set(c"arenas.dirty_decay_ms", 200isize);
    set(c"background_thread", true);
}

/// xorshift64: the same order of frees for every allocator.
pub struct Random(pub u64);

impl Random {
    #[inline(always)]
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound as u64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A pointer that may cross threads.
#[derive(Clone, Copy)]
pub struct Shared(pub *mut u8);

// SAFETY: the benchmarks hand each pointer to one thread at a time.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// The layout of a size at the alignment of malloc.
pub fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("the sizes here are small")
}
