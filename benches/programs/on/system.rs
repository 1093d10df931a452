//! The workloads of Rust programs on the system allocator.

#[global_allocator]
static ALLOCATOR: std::alloc::System = std::alloc::System;

fn main() -> anyhow::Result<()> {
    valloc_benches::workloads::main()
}
