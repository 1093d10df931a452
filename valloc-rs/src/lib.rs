//! valloc: a general-purpose memory allocator, written in C, for Rust programs.
//!
//! ```
//! #[global_allocator]
//! static GLOBAL: valloc::Valloc = valloc::Valloc;
//!
//! let words: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
//! assert_eq!(words.len(), 1000);
//! ```
//!
//! [`Valloc`] is the global allocator. Functions query and control it:
//!
//! * [`usable_size`], [`good_size`]: how many bytes a request really gets;
//! * [`allocate_batch`], [`deallocate_batch`]: many blocks of one layout in one call;
//! * [`purge`], [`background_purge`], [`defrag_hint`]: return free memory to the kernel;
//! * [`stats`], [`visit_classes`], [`visit_caches`], [`print_stats`], [`write_stats`]: statistics;
//! * [`profile`]: a heap profile, which tells where the memory in use was allocated;
//! * [`configure!`], [`set_purge_delay`], [`set_huge_pages`], [`set_limits`]: options;
//! * [`version`].
//!
//! A [`Heap`] is an allocator of your own. Its memory is limited, inspected and freed as a whole.
//!
//! # Targets
//!
//! valloc has ports for Linux on x86-64, aarch64 and riscv64, with glibc and musl. There this crate
//! is `no_std`. On all other targets it [forwards](FORWARDS) to `std::alloc::System`.
//!
//! # Features
//!
//! * `override`: `malloc` and `free` of the C libraries in the process use valloc, too.
//! * `allocator-api2`, `nightly`: collections accept a `&Heap`.
//! * `secure`: reuse is delayed and random, freed memory is zeroed, and canaries and guard pages
//!   detect overflows.
//! * `unchecked`: leaves out what reports every double free and free of no allocation at once.
//! * `dlopen`: for libraries that are loaded late, as Python's.
//! * `valgrind`: memcheck sees every allocation.
#![no_std]
#![cfg_attr(feature = "nightly", feature(allocator_api))]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod global;
mod heap;
mod info;
pub mod profile;
mod settings;
mod stats;
#[cfg_attr(valloc_forwards, path = "system.rs")]
#[cfg_attr(not(valloc_forwards), path = "port.rs")]
mod sys;

pub use batch::{allocate_batch, deallocate_batch};
pub use global::{Valloc, FORWARDS};
pub use heap::{AllocError, Heap, HeapBlock, HeapBuilder, HeapError, HeapStats, BLOCK_BYTES};
pub use info::{background_purge, defrag_hint, good_size, purge, usable_size, version};
pub use settings::{set_huge_pages, set_limits, set_purge_delay, HugePages};
pub use stats::{
    print_stats, stats, visit_caches, visit_classes, write_stats, CacheStats, ClassStats, Stats,
    StatsFormat,
};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
