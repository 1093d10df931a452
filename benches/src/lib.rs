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

pub use contenders::*;
pub use figures::*;
