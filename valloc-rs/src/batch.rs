//! Batches: many blocks of one layout in one call.

use core::alloc::Layout;
use core::mem::MaybeUninit;
use core::ptr::{null_mut, NonNull};

use crate::{sys, AllocError, Heap};

/// Allocates a block for each place, and returns them. Small blocks take a third of the time of as
/// many single allocations. Each is an allocation of its own: [`deallocate_batch`] or
/// `Valloc.dealloc` frees it. If there is not enough memory, none is allocated. Size 0 needs no
/// memory.
///
/// ```
/// use std::alloc::Layout;
/// use std::mem::MaybeUninit;
///
/// let layout = Layout::new::<[u64; 8]>();
/// let mut places = [MaybeUninit::uninit(); 100];
/// let blocks = valloc::allocate_batch(layout, &mut places)?;
/// assert_eq!(blocks.len(), 100);
/// // SAFETY: they have this layout, and are not used afterwards.
/// unsafe { valloc::deallocate_batch(blocks, layout) };
/// # Ok::<(), valloc::AllocError>(())
/// ```
pub fn allocate_batch(
    layout: Layout,
    places: &mut [MaybeUninit<NonNull<u8>>],
) -> Result<&mut [NonNull<u8>], AllocError> {
    // SAFETY: NULL stands for the process.
    unsafe { fill(null_mut(), layout, places) }
}

/// Frees blocks of one layout.
///
/// # Safety
///
/// Each is from [`allocate_batch`] or [`Valloc`](crate::Valloc), has this layout, is there once, and
/// is not used afterwards.
pub unsafe fn deallocate_batch(blocks: &[NonNull<u8>], layout: Layout) {
    // SAFETY: the caller's promise; NULL stands for the process.
    unsafe { free(null_mut(), layout, blocks) }
}

impl Heap {
    /// Allocates a block for each place, and returns them. Small blocks take a third of the time of
    /// as many calls of [`allocate`](Heap::allocate). If there is not enough memory, none is
    /// allocated. Size 0 needs no memory.
    pub fn allocate_batch<'a>(
        &self,
        layout: Layout,
        places: &'a mut [MaybeUninit<NonNull<u8>>],
    ) -> Result<&'a mut [NonNull<u8>], AllocError> {
        // SAFETY: the allocator is initialised.
        unsafe { fill(self.raw(), layout, places) }
    }

    /// Frees blocks of one layout.
    ///
    /// # Safety
    ///
    /// Each is from this heap, has this layout, is there once, and is not used afterwards.
    pub unsafe fn deallocate_batch(&self, blocks: &[NonNull<u8>], layout: Layout) {
        // SAFETY: the caller's promise; the allocator is initialised.
        unsafe { free(self.raw(), layout, blocks) }
    }
}

/// # Safety
///
/// The allocator is initialised, or NULL.
unsafe fn fill(
    allocator: *mut sys::MemoryAllocator,
    layout: Layout,
    places: &mut [MaybeUninit<NonNull<u8>>],
) -> Result<&mut [NonNull<u8>], AllocError> {
    let count = places.len();
    let first = places.as_mut_ptr().cast::<NonNull<u8>>();
    if layout.size() == 0 {
        // SAFETY: an alignment is not 0.
        let nothing = unsafe { NonNull::new_unchecked(layout.align() as *mut u8) };
        places.fill(MaybeUninit::new(nothing));
    } else {
        // SAFETY: there are so many places, and an address fits each.
        let got = unsafe { sys::allocate_batch(allocator, layout, count, first.cast()) };
        if got < count {
            // SAFETY: these were allocated, and nobody has seen them.
            unsafe { free(allocator, layout, core::slice::from_raw_parts(first, got)) };
            return Err(AllocError);
        }
    }
    // SAFETY: each place has an address, which is not NULL.
    Ok(unsafe { core::slice::from_raw_parts_mut(first, count) })
}

/// # Safety
///
/// The blocks are the allocator's, or for NULL the process's, and have the layout.
unsafe fn free(allocator: *mut sys::MemoryAllocator, layout: Layout, blocks: &[NonNull<u8>]) {
    if layout.size() != 0 {
        // SAFETY: the caller's promise.
        unsafe { sys::free_batch(allocator, layout, blocks) }
    }
}
