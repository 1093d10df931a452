//! valloc: a high-performance memory allocator.
//!
//! ```
//! #[global_allocator]
//! static GLOBAL: valloc::Valloc = valloc::Valloc;
//!
//! let words: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
//! assert_eq!(words.len(), 1000);
//! ```
//!
//! [`Valloc`] is the allocator; the functions tell about it and steer it:
//!
//! * [`usable_size`], [`good_size`]: what a request really gets;
//! * [`purge`], [`background_purge`]: give free memory back to the system;
//! * [`stats`], [`visit_classes`], [`visit_caches`], [`print_stats`]: where memory stands;
//! * [`version`].
//!
//! A [`Heap`] is an allocator of its own, whose memory is bounded, inspected and dropped as a whole.
//!
//! The feature `override` also serves `malloc` and `free` of the C libraries in the process;
//! `allocator-api2` and `nightly` let collections take a `&Heap`; `secure` detects every double free
//! at once, delays and randomises reuse, zeroes what is freed and guards its ends.
#![no_std]
#![cfg_attr(feature = "nightly", feature(allocator_api))]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod global;
mod heap;
mod info;
mod stats;

pub use global::Valloc;
pub use heap::{AllocError, Heap, HeapBlock, HeapBuilder, HeapError, HeapStats, BLOCK_BYTES};
pub use info::{background_purge, good_size, purge, usable_size, version};
pub use stats::{
    print_stats, stats, visit_caches, visit_classes, write_stats, CacheStats, ClassStats, Stats,
    StatsFormat,
};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
