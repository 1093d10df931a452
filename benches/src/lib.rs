//! What the benchmarks of valloc share.

pub mod chart;
pub mod child;
pub mod comparison;
mod contenders;
mod figures;
pub mod original;
pub mod page;
pub mod results;
pub mod workloads;

/// The examples of the project's README are compiled and run as tests.
#[doc = include_str!("../../README.md")]
#[cfg(doctest)]
struct Readme;

pub use contenders::*;
pub use figures::*;
