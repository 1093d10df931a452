//! Common parts of valloc's benchmarks.

pub mod chart;
pub mod child;
pub mod comparison;
mod contenders;
mod figures;
pub mod original;
pub mod page;
pub mod results;
pub mod workloads;

/// The Rust examples of the project's README and of the notes on migrating, as tests.
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../docs/migrating.md")]
#[cfg(doctest)]
struct Documents;

pub use contenders::*;
pub use figures::*;
