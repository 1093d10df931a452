//! What the allocator tells about itself, and purging.

use valloc_sys as sys;

/// How many bytes of the block at `ptr` may be used: at least what was asked for.
///
/// # Safety
///
/// `ptr` is a block of this allocator that has not been freed.
///
/// ```
/// use std::alloc::{GlobalAlloc, Layout};
/// let layout = Layout::new::<[u8; 100]>();
/// // SAFETY: the size is not 0; the block is freed with its layout.
/// unsafe {
///     let block = valloc::Valloc.alloc(layout);
///     assert!(valloc::usable_size(block) >= 100);
///     valloc::Valloc.dealloc(block, layout);
/// }
/// ```
#[inline]
pub unsafe fn usable_size(ptr: *const u8) -> usize {
    // SAFETY: the caller's promise.
    unsafe { sys::valloc_usable_size(ptr.cast()) }
}

/// The usable size that a request of `size` bytes gets: a buffer grown to it wastes nothing.
///
/// ```
/// assert!(valloc::good_size(1000) >= 1000);
/// assert_eq!(valloc::good_size(valloc::good_size(1000)), valloc::good_size(1000));
/// ```
#[inline]
pub fn good_size(size: usize) -> usize {
    // SAFETY: any size is allowed.
    unsafe { sys::valloc_good_size(size) }
}

/// Gives every free page back to the system, from any thread: free blocks, and the pages of all
/// threads' slabs that hold no slot in use. Returns the bytes given back.
///
/// ```
/// drop(vec![1u8; 10_000_000]);
/// valloc::purge();
/// ```
pub fn purge() -> usize {
    // SAFETY: may be called at any time.
    unsafe { sys::valloc_purge() }
}

/// Allows or stops a thread that gives free memory back while the program's own threads idle: for
/// servers with quiet hours. It is there while there is something to give back, and keeps no process
/// alive. Returns true.
///
/// ```
/// assert!(valloc::background_purge(true));
/// assert!(valloc::background_purge(false));
/// ```
#[must_use]
pub fn background_purge(on: bool) -> bool {
    // SAFETY: may be called at any time.
    unsafe { sys::valloc_background_purge(on.into()) == 0 }
}

/// The version of the library in use: major * 10000 + minor * 100 + patch.
///
/// ```
/// assert!(valloc::version() >= 100);
/// ```
pub fn version() -> i32 {
    // SAFETY: may be called at any time.
    unsafe { sys::valloc_version() }
}
