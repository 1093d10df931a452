//! The global allocator. `port.rs` and `system.rs` implement it.

/// The allocator of the process, for use as the global allocator.
///
/// ```
/// #[global_allocator]
/// static GLOBAL: valloc::Valloc = valloc::Valloc;
/// # let v = vec![1, 2, 3];
/// # assert_eq!(v.len(), 3);
/// ```
///
/// Deallocation passes the size to valloc, which is faster and is checked: a layout of another
/// size class ends the process with a message.
///
/// On targets without a port of valloc it passes all calls to `std::alloc::System`, see [`FORWARDS`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Valloc;

/// Whether the target has no port of valloc. All memory is then the system's allocator's, and
/// nothing is purged. [`stats`] is zero and [`usable_size`] is 0. A [`Heap`] enforces its hard limit
/// and frees all that it has lent, but describes no blocks and classes.
///
/// [`Heap`]: crate::Heap
/// [`stats`]: crate::stats
/// [`usable_size`]: crate::usable_size
pub const FORWARDS: bool = cfg!(valloc_forwards);
