//! The workloads of Rust programs on valloc.

#[global_allocator]
static ALLOCATOR: valloc::Valloc = valloc::Valloc;

fn main() -> anyhow::Result<()> {
    valloc_benches::workloads::main()
}
