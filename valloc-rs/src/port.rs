//! The C core, which the other files call `sys`. `system.rs` stands for it where there is no port.

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use core::ptr::NonNull;

pub use valloc_sys::*;

/// The alignment of `valloc_malloc`. Larger ones need the aligned functions.
const MALLOC_ALIGN: usize = 16;

// SAFETY: the C functions return NULL, or an allocation of at least the requested size and
// alignment that overlaps no other one. It keeps its contents until it is freed. The functions
// never unwind, and any thread may call them. Size 0 is allowed; GlobalAlloc's callers never pass
// it.
unsafe impl GlobalAlloc for crate::Valloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: any size is allowed.
            unsafe { valloc_malloc(layout.size()).cast() }
        } else {
            // SAFETY: a layout's alignment is a power of two.
            unsafe { valloc_aligned_alloc(layout.align(), layout.size()).cast() }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: the caller's block came from here with this layout.
            unsafe { valloc_free_sized(ptr.cast(), layout.size()) }
        } else {
            // SAFETY: as above.
            unsafe { valloc_free_aligned_sized(ptr.cast(), layout.align(), layout.size()) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: any size is allowed.
            unsafe { valloc_calloc(1, layout.size()).cast() }
        } else {
            // SAFETY: a layout's alignment is a power of two.
            unsafe { valloc_aligned_calloc(layout.align(), layout.size()).cast() }
        }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: the caller's block came from here with this layout.
            unsafe { valloc_realloc(ptr.cast(), new_size).cast() }
        } else {
            // SAFETY: as above; the alignment is a power of two.
            unsafe { valloc_aligned_realloc(ptr.cast(), layout.align(), new_size).cast() }
        }
    }
}

/// Whether an address lies in memory that the allocator lends.
///
/// # Safety
///
/// The allocator is initialised.
pub unsafe fn owns(allocator: *mut MemoryAllocator, address: *const c_void) -> bool {
    // SAFETY: any address may be asked for; it is not dereferenced.
    core::ptr::eq(unsafe { valloc_owner(address) }, allocator)
}

/// Allocates blocks one after another, of the process if the allocator is NULL. Returns how many.
///
/// # Safety
///
/// The allocator is initialised or NULL; there is room for so many addresses.
pub unsafe fn allocate_batch(
    allocator: *mut MemoryAllocator,
    layout: Layout,
    count: usize,
    first: *mut *mut c_void,
) -> usize {
    // SAFETY: the caller's promise; a layout's alignment is a power of two.
    unsafe {
        let allocator = if allocator.is_null() { valloc_process() } else { allocator };
        if layout.align() <= MALLOC_ALIGN {
            return valloc_allocate_batch_from(allocator, layout.size(), count, first);
        }
        for i in 0..count {
            let block = valloc_allocate_aligned(allocator, layout.align(), layout.size());
            if block.is_null() {
                return i;
            }
            first.add(i).write(block);
        }
    }
    count
}

/// Frees blocks, of any allocator.
///
/// # Safety
///
/// Each is an allocation, is there once, and is not used afterwards.
pub unsafe fn free_batch(_: *mut MemoryAllocator, _: Layout, blocks: &[NonNull<u8>]) {
    // SAFETY: the caller's promise.
    unsafe { valloc_free_batch(blocks.as_ptr().cast(), blocks.len()) }
}
