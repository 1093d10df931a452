//! Sizes, purging, and the version.

use crate::sys;

/// How many bytes of the allocation at `ptr` may be used: at least as many as requested. 0, which is
/// unknown, if valloc [forwards](crate::FORWARDS).
///
/// # Safety
///
/// `ptr` is an allocation of valloc that has not been freed.
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

/// The usable size of a request of `size` bytes. A buffer that grows to it wastes nothing.
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

/// Purges: returns all free pages to the kernel, in free blocks and inside slabs that are partly
/// used, for all threads. Returns the number of bytes purged.
///
/// ```
/// drop(vec![1u8; 10_000_000]);
/// valloc::purge();
/// ```
pub fn purge() -> usize {
    // SAFETY: may be called at any time.
    unsafe { sys::valloc_purge() }
}

/// Whether moving the object at `ptr` to a new allocation may help to free a slab. If so, allocate
/// and copy, then free `ptr`, in the same thread. False for any pointer that is no allocation.
///
/// ```
/// let number = Box::new(7);
/// if valloc::defrag_hint(&*number) {
///     let copy = number.clone();
///     drop(number);
///     # drop(copy);
/// }
/// ```
pub fn defrag_hint<T: ?Sized>(ptr: *const T) -> bool {
    // SAFETY: any address may be asked for; it is not dereferenced.
    unsafe { sys::valloc_defrag_hint(ptr.cast()) != 0 }
}

/// Starts or stops purging in the background while the program's threads are idle, for example in
/// servers with quiet hours. The background thread is there while there is something to purge, or the
/// heap is 16 MiB or larger. It does not keep the process alive. Returns true, or false if valloc [forwards](crate::FORWARDS).
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

/// The version of the loaded library: major * 10000 + minor * 100 + patch.
///
/// ```
/// assert!(valloc::version() >= 100);
/// ```
pub fn version() -> i32 {
    // SAFETY: may be called at any time.
    unsafe { sys::valloc_version() }
}
