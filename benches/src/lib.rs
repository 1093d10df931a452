//! What the benchmarks of valloc share: the allocators compared, behind one trait.
//!
//! All of them serve one process at a time or side by side: each keeps heaps of its own and is
//! called through its `GlobalAlloc`, monomorphised, as a Rust program would call it.

use std::alloc::{GlobalAlloc, Layout};

/// An allocator under comparison.
pub trait Contender: GlobalAlloc + Sync + 'static {
    const NAME: &'static str;
    fn get() -> &'static Self;

    /// Allocates as this contender's users would: zeroed for `calloc`.
    ///
    /// # Safety
    /// As `GlobalAlloc::alloc`.
    #[inline(always)]
    unsafe fn obtain(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.alloc(layout) }
    }
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
    ($($type:ty, $value:expr, $name:literal;)*) => {
        $(impl Contender for $type {
            const NAME: &'static str = $name;
            #[inline(always)]
            fn get() -> &'static Self {
                static ONE: $type = $value;
                &ONE
            }
        })*

        /// Their names, in the order of tables.
        pub const NAMES: &[&str] = &[$($name),*];

        /// Calls a generic function with the contender of this name as its type.
        pub fn with_contender<V: Visitor>(name: &str, visitor: V) -> Option<V::Out> {
            match name {
                $($name => Some(visitor.visit::<$type>()),)*
                _ => None,
            }
        }
    };
}

/// A function that is generic over the contender.
pub trait Visitor {
    type Out;
    fn visit<C: Contender>(self) -> Self::Out;
}

contenders! {
    Malloc, Malloc, "malloc";
    Calloc, Calloc, "calloc";
    valloc::Valloc, valloc::Valloc, "valloc";
    mimalloc::MiMalloc, mimalloc::MiMalloc, "mimalloc";
    tikv_jemallocator::Jemalloc, tikv_jemallocator::Jemalloc, "jemalloc";
    snmalloc_rs::SnMalloc, snmalloc_rs::SnMalloc, "snmalloc";
}

/// xorshift64: the same order of frees for everyone.
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

/// Lets a pointer cross threads: it is an address and a promise.
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

/// A line of /proc/self/status in KiB.
pub fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line[name.len()..].split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0)
}

/// The median of the values, which it sorts; NaN if there are none.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// The geometric mean of ratios.
pub fn geometric_mean(ratios: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) =
        ratios.into_iter().fold((0.0, 0), |(sum, count), ratio| (sum + ratio.ln(), count + 1));
    (sum / f64::from(count)).exp()
}

/// 8, 1 KiB, 32 MiB.
pub fn human_size(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 20 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}
