//! Allocators of one's own: memory that is bounded, inspected and dropped as a whole.

use core::alloc::Layout;
use core::ffi::{c_int, c_void, CStr};
use core::fmt;
use core::marker::PhantomData;
use core::mem::size_of;
use core::ops::ControlFlow;
use core::ptr::{addr_of_mut, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use valloc_sys as sys;

use crate::stats::{visit_classes_of, ClassStats, Sink};

/// Bytes of the unit in which a heap holds memory.
pub const BLOCK_BYTES: usize = sys::VALLOC_BLOCK_BYTES as usize;

/// There is no memory, or a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory, or above the heap's limit")
    }
}

impl core::error::Error for AllocError {}

/// Why a heap cannot be made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeapError {
    /// No initial blocks, no threads or more than 65536, or a limit below what is to be held.
    Invalid,
    /// There is no memory.
    NoMemory,
}

impl fmt::Display for HeapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeapError::Invalid => "the heap's options contradict each other",
            HeapError::NoMemory => "out of memory for a heap",
        })
    }
}

impl core::error::Error for HeapError {}

impl From<AllocError> for HeapError {
    fn from(_: AllocError) -> Self {
        HeapError::NoMemory
    }
}

/// An allocator of its own: everything that it lent is freed, at once, when it is dropped.
///
/// Any thread may allocate from it and free what others allocated. Memory is lent for as long as
/// the heap is borrowed:
///
/// ```
/// let heap = valloc::Heap::new()?;
/// let name: &mut str = heap.alloc_str("valloc").unwrap();
/// name.make_ascii_uppercase();
/// assert_eq!(name, "VALLOC");
/// drop(heap); // `name` cannot be used from here on
/// # Ok::<(), valloc::HeapError>(())
/// ```
///
/// With the feature `allocator-api2` collections take a `&Heap` as their allocator, with `nightly`
/// those of the standard library do.
pub struct Heap {
    raw: NonNull<sys::MemoryAllocator>,
}

// SAFETY: the C functions may be called from any thread.
unsafe impl Send for Heap {}
// SAFETY: as above; every method that takes `&self` locks what it has to.
unsafe impl Sync for Heap {}

/// Options of a new heap.
///
/// ```
/// let heap = valloc::Heap::builder().name(c"requests").hard_limit(64 << 20).build()?;
/// # Ok::<(), valloc::HeapError>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct HeapBuilder<'a> {
    initial_blocks: usize,
    threads: usize,
    options: sys::valloc_options,
    name: PhantomData<&'a CStr>,
}

impl<'a> HeapBuilder<'a> {
    /// Blocks of [`BLOCK_BYTES`] that the heap holds from the start; at least 1, the default.
    pub fn initial_blocks(mut self, blocks: usize) -> Self {
        self.initial_blocks = blocks;
        self
    }

    /// Threads that can have a cache of their own; others share one. 64 by default, 65536 at most.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Bytes above which free memory is given back at once. None by default.
    pub fn soft_limit(mut self, bytes: usize) -> Self {
        self.options.soft_limit = bytes;
        self
    }

    /// Bytes that are never exceeded: allocations fail instead. None by default.
    pub fn hard_limit(mut self, bytes: usize) -> Self {
        self.options.hard_limit = bytes;
        self
    }

    /// A name for dumps, of which 31 bytes are kept.
    pub fn name<'b>(self, name: &'b CStr) -> HeapBuilder<'b> {
        let options = sys::valloc_options { name: name.as_ptr(), ..self.options };
        HeapBuilder {
            initial_blocks: self.initial_blocks,
            threads: self.threads,
            options,
            name: PhantomData,
        }
    }

    /// Makes the heap.
    pub fn build(self) -> Result<Heap, HeapError> {
        let threads = c_int::try_from(self.threads).map_err(|_| HeapError::Invalid)?;
        if self.initial_blocks == 0 || threads < 1 || threads as u32 > sys::VALLOC_MAX_THREADS {
            return Err(HeapError::Invalid);
        }
        // SAFETY: any size is allowed; all bytes zero are an allocator without life.
        let raw = unsafe { sys::valloc_calloc(1, size_of::<sys::MemoryAllocator>()) };
        let raw = NonNull::new(raw.cast::<sys::MemoryAllocator>()).ok_or(HeapError::NoMemory)?;
        // SAFETY: the memory is valid and stays where it is; the name outlives the call.
        let result = unsafe {
            sys::valloc_init_with(raw.as_ptr(), self.initial_blocks, threads, &self.options)
        };
        if result == 0 {
            return Ok(Heap { raw });
        }
        // SAFETY: it was allocated above.
        unsafe { sys::valloc_free(raw.as_ptr().cast()) };
        let bytes = self.initial_blocks.saturating_mul(BLOCK_BYTES);
        let fits = |limit: usize| limit == 0 || limit >= bytes;
        let ordered =
            self.options.hard_limit == 0 || self.options.soft_limit <= self.options.hard_limit;
        if fits(self.options.soft_limit) && fits(self.options.hard_limit) && ordered {
            Err(HeapError::NoMemory)
        } else {
            Err(HeapError::Invalid)
        }
    }
}

/// What a heap holds, in blocks of [`BLOCK_BYTES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// Held, free or occupied.
    pub total_blocks: usize,
    /// Occupied: a slot of it is in use, or in a thread's cache.
    pub used_blocks: usize,
    /// Occupied anew after having been freed, a running total.
    pub recycled_blocks: usize,
}

/// A block of a heap as [`Heap::visit_blocks`] saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapBlock {
    /// Where it starts.
    pub address: usize,
    /// Bytes, a multiple of [`BLOCK_BYTES`].
    pub size: usize,
    /// Whether any of it is in use, or in a thread's cache.
    pub occupied: bool,
    /// Bytes of each of its slots; 0 if free.
    pub slot_size: usize,
    /// Slots that it is cut into; 1 if it is lent as a whole, 0 if free.
    pub slots: usize,
    /// Slots in use; those in other threads' caches count as well.
    pub live_slots: usize,
}

impl Heap {
    /// A heap with the default options.
    pub fn new() -> Result<Self, HeapError> {
        Self::builder().build()
    }

    /// Options to choose.
    pub fn builder() -> HeapBuilder<'static> {
        HeapBuilder {
            initial_blocks: 1,
            threads: 64,
            options: sys::valloc_options::default(),
            name: PhantomData,
        }
    }

    /// Allocates memory for the layout, as long as the heap lives. Size 0 needs none.
    #[inline]
    pub fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(nothing(layout));
        }
        // SAFETY: the allocator is initialised; an alignment of a layout is a power of two.
        let memory = unsafe {
            if layout.align() <= MIN_ALIGN {
                sys::valloc_allocate(self.raw.as_ptr(), layout.size())
            } else {
                sys::valloc_allocate_aligned(self.raw.as_ptr(), layout.align(), layout.size())
            }
        };
        slice(memory, layout.size())
    }

    /// The same with all bytes zero.
    #[inline]
    pub fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(nothing(layout));
        }
        // SAFETY: as in `allocate`.
        let memory = unsafe {
            if layout.align() <= MIN_ALIGN {
                sys::valloc_allocate_zeroed(self.raw.as_ptr(), 1, layout.size())
            } else {
                sys::valloc_allocate_aligned_zeroed(
                    self.raw.as_ptr(),
                    layout.align(),
                    layout.size(),
                )
            }
        };
        slice(memory, layout.size())
    }

    /// Frees a block.
    ///
    /// # Safety
    ///
    /// The block came from this heap for this layout and is not used afterwards.
    #[inline]
    pub unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller's promise.
            unsafe { sys::free_valloc(self.raw.as_ptr(), block.as_ptr().cast()) }
        }
    }

    /// Changes a block to a new layout, in place where it can be; on an error it is as it was.
    /// Bytes beyond the smaller size are unspecified.
    ///
    /// # Safety
    ///
    /// The block came from this heap for the old layout; if this succeeds it is used no more.
    #[inline]
    pub unsafe fn reallocate(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() == 0 {
            return self.allocate(new);
        }
        if new.size() == 0 {
            // SAFETY: the caller's promise.
            unsafe { self.deallocate(block, old) };
            return Ok(nothing(new));
        }
        // SAFETY: the caller's promise; an alignment of a layout is a power of two.
        let memory = unsafe {
            sys::valloc_reallocate_aligned(
                self.raw.as_ptr(),
                block.as_ptr().cast(),
                new.align(),
                new.size(),
            )
        };
        slice(memory, new.size())
    }

    /// Moves a value into the heap. It is freed with the heap; its destructor does not run.
    // From `&self`: every call lends other memory.
    #[allow(clippy::mut_from_ref)]
    #[inline]
    pub fn alloc<T>(&self, value: T) -> Result<&mut T, AllocError> {
        let place = self.allocate(Layout::new::<T>())?.cast::<T>();
        // SAFETY: the memory has the layout of T, is nobody else's, and lives as long as the heap,
        // which is borrowed.
        unsafe {
            place.as_ptr().write(value);
            Ok(&mut *place.as_ptr())
        }
    }

    /// Copies a slice into the heap.
    #[allow(clippy::mut_from_ref)]
    pub fn alloc_slice<T: Copy>(&self, values: &[T]) -> Result<&mut [T], AllocError> {
        let place = self.allocate(Layout::for_value(values))?.cast::<T>();
        // SAFETY: as in `alloc`; the two cannot overlap.
        unsafe {
            place.as_ptr().copy_from_nonoverlapping(values.as_ptr(), values.len());
            Ok(core::slice::from_raw_parts_mut(place.as_ptr(), values.len()))
        }
    }

    /// Copies a string into the heap.
    #[allow(clippy::mut_from_ref)]
    pub fn alloc_str(&self, text: &str) -> Result<&mut str, AllocError> {
        let bytes = self.alloc_slice(text.as_bytes())?;
        // SAFETY: the bytes are those of a str.
        Ok(unsafe { core::str::from_utf8_unchecked_mut(bytes) })
    }

    /// Does a block of memory belong to this heap? Of a block above 64 KiB only the start is known.
    pub fn owns<T: ?Sized>(&self, block: *const T) -> bool {
        // SAFETY: any address may be asked for; it is not dereferenced.
        let owner = unsafe { sys::valloc_owner(block.cast()) };
        core::ptr::eq(owner, self.raw.as_ptr())
    }

    /// What the heap holds now.
    pub fn stats(&self) -> HeapStats {
        let raw = self.raw.as_ptr();
        // SAFETY: the counters live as long as the heap; the library changes them by atomics.
        let read = |counter| unsafe { AtomicUsize::from_ptr(counter) }.load(Ordering::Relaxed);
        // SAFETY: addresses of members, nothing is read.
        unsafe {
            HeapStats {
                total_blocks: read(addr_of_mut!((*raw).total_blocks)),
                used_blocks: read(addr_of_mut!((*raw).used_blocks)),
                recycled_blocks: read(addr_of_mut!((*raw).recycled_blocks)),
            }
        }
    }

    /// Changes the limits, in bytes. `HeapError::Invalid` if the soft one is above the hard one.
    pub fn set_limits(&self, soft: Option<usize>, hard: Option<usize>) -> Result<(), HeapError> {
        // A limit of 0 bytes is one of as little as can be: 0 itself would mean none.
        let bytes = |limit: Option<usize>| limit.map_or(0, |bytes| bytes.max(1));
        // SAFETY: the allocator is initialised.
        let result = unsafe { sys::valloc_set_limits(self.raw.as_ptr(), bytes(soft), bytes(hard)) };
        if result == 0 {
            Ok(())
        } else {
            Err(HeapError::Invalid)
        }
    }

    /// Visits every block in the order of the addresses until the visitor breaks. It may use the
    /// heap; what changes meanwhile may be seen or not. A panic of the visitor aborts.
    pub fn visit_blocks<F>(&self, mut visit: F) -> ControlFlow<()>
    where
        F: FnMut(&HeapBlock) -> ControlFlow<()>,
    {
        extern "C" fn call<F>(block: *const sys::MemoryBlock, visit: *mut c_void) -> c_int
        where
            F: FnMut(&HeapBlock) -> ControlFlow<()>,
        {
            // SAFETY: both are what `visit_blocks` and the library pass.
            let (block, visit) = unsafe { (&*block, &mut *visit.cast::<F>()) };
            let block = HeapBlock {
                address: block.address as usize,
                size: block.size,
                occupied: block.status == sys::VALLOC_BLOCK_OCCUPIED,
                slot_size: block.slot_size,
                slots: block.slots,
                live_slots: block.live_slots,
            };
            c_int::from(visit(&block).is_break())
        }
        // SAFETY: the allocator is initialised; `visit` outlives the call.
        let result = unsafe {
            sys::valloc_blocks(self.raw.as_ptr(), Some(call::<F>), addr_of_mut!(visit).cast())
        };
        if result == 0 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    /// Visits every size class in use, the smallest first, until the visitor breaks. A panic of the
    /// visitor aborts.
    pub fn visit_classes<F>(&self, visit: F) -> ControlFlow<()>
    where
        F: FnMut(&ClassStats) -> ControlFlow<()>,
    {
        // SAFETY: the allocator is initialised.
        unsafe { visit_classes_of(self.raw.as_ptr(), visit) }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: the allocator is initialised; nobody borrows it, so that nobody uses it or what
        // it lent. Its own memory came from valloc_calloc.
        unsafe {
            sys::valloc_destroy(self.raw.as_ptr());
            sys::valloc_free(self.raw.as_ptr().cast());
        }
    }
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The heap described for a person: its blocks by size of slot, how full they are, its limits.
impl fmt::Display for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw = self.raw.as_ptr();
        // SAFETY: the allocator is initialised; the rest is as `Sink` expects it.
        Sink::collect(f, |write, sink| unsafe { sys::valloc_dump(raw, write, sink) })
    }
}

/// What the plain functions align to.
const MIN_ALIGN: usize = 16;

fn slice(memory: *mut c_void, size: usize) -> Result<NonNull<[u8]>, AllocError> {
    match NonNull::new(memory.cast::<u8>()) {
        Some(start) => Ok(NonNull::slice_from_raw_parts(start, size)),
        None => Err(AllocError),
    }
}

/// A block of no bytes: an address that is aligned, and nothing behind it.
fn nothing(layout: Layout) -> NonNull<[u8]> {
    // SAFETY: an alignment is not 0.
    let start = unsafe { NonNull::new_unchecked(layout.align() as *mut u8) };
    NonNull::slice_from_raw_parts(start, 0)
}

#[cfg(any(feature = "allocator-api2", feature = "nightly"))]
macro_rules! implement_allocator {
    ($api:path) => {
        const _: () = {
            use $api as api;

            // SAFETY: blocks stay valid until the heap is dropped, wherever it is moved to;
            // the functions above fulfil what the trait asks of each of them.
            unsafe impl api::Allocator for Heap {
                #[inline]
                fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, api::AllocError> {
                    Heap::allocate(self, layout).map_err(|AllocError| api::AllocError)
                }

                #[inline]
                fn allocate_zeroed(
                    &self,
                    layout: Layout,
                ) -> Result<NonNull<[u8]>, api::AllocError> {
                    Heap::allocate_zeroed(self, layout).map_err(|AllocError| api::AllocError)
                }

                #[inline]
                unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
                    // SAFETY: the caller's promise.
                    unsafe { Heap::deallocate(self, block, layout) }
                }

                #[inline]
                unsafe fn grow(
                    &self,
                    block: NonNull<u8>,
                    old: Layout,
                    new: Layout,
                ) -> Result<NonNull<[u8]>, api::AllocError> {
                    // SAFETY: the caller's promise.
                    unsafe { self.reallocate(block, old, new) }
                        .map_err(|AllocError| api::AllocError)
                }

                #[inline]
                unsafe fn grow_zeroed(
                    &self,
                    block: NonNull<u8>,
                    old: Layout,
                    new: Layout,
                ) -> Result<NonNull<[u8]>, api::AllocError> {
                    // SAFETY: the caller's promise; the bytes beyond the old size are new.
                    unsafe {
                        let grown = self
                            .reallocate(block, old, new)
                            .map_err(|AllocError| api::AllocError)?;
                        let tail = grown.cast::<u8>().as_ptr().add(old.size());
                        tail.write_bytes(0, new.size() - old.size());
                        Ok(grown)
                    }
                }

                #[inline]
                unsafe fn shrink(
                    &self,
                    block: NonNull<u8>,
                    old: Layout,
                    new: Layout,
                ) -> Result<NonNull<[u8]>, api::AllocError> {
                    // SAFETY: the caller's promise.
                    unsafe { self.reallocate(block, old, new) }
                        .map_err(|AllocError| api::AllocError)
                }
            }
        };
    };
}

#[cfg(feature = "allocator-api2")]
implement_allocator!(allocator_api2::alloc);
#[cfg(feature = "nightly")]
implement_allocator!(core::alloc);
