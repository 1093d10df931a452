//! The global allocator. It translates layouts and makes no decisions of its own.

use core::alloc::{GlobalAlloc, Layout};

use valloc_sys as sys;

/// The alignment of `valloc_malloc`. Larger ones need the aligned functions.
const MALLOC_ALIGN: usize = 16;

/// The allocator of the process, for use as the global allocator.
///
/// ```
/// #[global_allocator]
/// static GLOBAL: valloc::Valloc = valloc::Valloc;
/// # let v = vec![1, 2, 3];
/// # assert_eq!(v.len(), 3);
/// ```
///
/// Deallocation passes the size to valloc, which is faster and is checked: a wrong layout ends the
/// process with a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Valloc;

// SAFETY: the C functions return NULL, or an allocation of at least the requested size and
// alignment that overlaps no other one. It keeps its contents until it is freed. The functions
// never unwind, and any thread may call them. Size 0 is allowed; GlobalAlloc's callers never pass
// it.
unsafe impl GlobalAlloc for Valloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: any size is allowed.
            unsafe { sys::valloc_malloc(layout.size()).cast() }
        } else {
            // SAFETY: a layout's alignment is a power of two.
            unsafe { sys::valloc_aligned_alloc(layout.align(), layout.size()).cast() }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: the caller's block came from here with this layout.
            unsafe { sys::valloc_free_sized(ptr.cast(), layout.size()) }
        } else {
            // SAFETY: as above.
            unsafe { sys::valloc_free_aligned_sized(ptr.cast(), layout.align(), layout.size()) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: any size is allowed.
            unsafe { sys::valloc_calloc(1, layout.size()).cast() }
        } else {
            // SAFETY: a layout's alignment is a power of two.
            unsafe { sys::valloc_aligned_calloc(layout.align(), layout.size()).cast() }
        }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: the caller's block came from here with this layout.
            unsafe { sys::valloc_realloc(ptr.cast(), new_size).cast() }
        } else {
            // SAFETY: as above; the alignment is a power of two.
            unsafe { sys::valloc_aligned_realloc(ptr.cast(), layout.align(), new_size).cast() }
        }
    }
}
