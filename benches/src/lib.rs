//! Benchmarks of valloc against other allocators.
