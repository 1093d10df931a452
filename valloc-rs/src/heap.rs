//! [`Heap`]: an allocator of your own, whose memory is limited, inspected and freed as a whole.

use core::alloc::Layout;
use core::ffi::{c_int, c_void, CStr};
use core::fmt;
use core::marker::PhantomData;
use core::mem::size_of;
use core::ops::ControlFlow;
use core::ptr::{addr_of_mut, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::stats::{visit_classes_of, ClassStats, Sink};
use crate::sys;

/// The unit in which a heap holds memory, in bytes.
pub const BLOCK_BYTES: usize = sys::VALLOC_BLOCK_BYTES as usize;

/// Memory has run out, or a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory, or above the heap's limit")
    }
}

impl core::error::Error for AllocError {}

/// Why a heap cannot be built or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeapError {
    /// The options are wrong: 0 initial blocks, 0 threads or more than 65536, or limits that
    /// contradict each other.
    Invalid,
    /// Memory has run out.
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

/// An allocator of your own. Dropping it frees all of its allocations at once.
///
/// Any thread may allocate from a heap, and free allocations of other threads. Allocations borrow
/// the heap:
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
/// With the feature `allocator-api2`, collections of that crate and of `hashbrown` accept a `&Heap`
/// as their allocator. With `nightly`, collections of the standard library do.
pub struct Heap {
    raw: NonNull<sys::MemoryAllocator>,
}

// SAFETY: the C functions may be called from any thread.
unsafe impl Send for Heap {}
// SAFETY: as above; every method that takes `&self` locks what it has to.
unsafe impl Sync for Heap {}

/// Options for a new heap.
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
    /// How many blocks of [`BLOCK_BYTES`] the heap always holds. At least 1, which is the default.
    pub fn initial_blocks(mut self, blocks: usize) -> Self {
        self.initial_blocks = blocks;
        self
    }

    /// How many threads can have a cache of their own; others share one. 64 by default, at most
    /// 65536.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Above this many bytes the heap keeps no free memory. No limit by default.
    pub fn soft_limit(mut self, bytes: usize) -> Self {
        self.options.soft_limit = bytes;
        self
    }

    /// Allocations that would exceed this many bytes fail. No limit by default.
    pub fn hard_limit(mut self, bytes: usize) -> Self {
        self.options.hard_limit = bytes;
        self
    }

    /// A name for dumps. The first 31 bytes are kept.
    pub fn name<'b>(self, name: &'b CStr) -> HeapBuilder<'b> {
        let options = sys::valloc_options { name: name.as_ptr(), ..self.options };
        HeapBuilder {
            initial_blocks: self.initial_blocks,
            threads: self.threads,
            options,
            name: PhantomData,
        }
    }

    /// Builds the heap.
    pub fn build(self) -> Result<Heap, HeapError> {
        let threads = c_int::try_from(self.threads).map_err(|_| HeapError::Invalid)?;
        if self.initial_blocks == 0 || threads < 1 || threads as u32 > sys::VALLOC_MAX_THREADS {
            return Err(HeapError::Invalid);
        }
        // SAFETY: any size is allowed; an allocator that is not initialised may be zero.
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

/// The size of a heap, in blocks of [`BLOCK_BYTES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// Blocks that the heap holds, free or occupied.
    pub total_blocks: usize,
    /// Occupied blocks: a slot is in use or in a thread cache.
    pub used_blocks: usize,
    /// How often a freed block was occupied again, a running total.
    pub recycled_blocks: usize,
}

/// A block or run of a heap, as [`Heap::visit_blocks`] describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapBlock {
    /// The address of its first byte.
    pub address: usize,
    /// Size in bytes, a multiple of [`BLOCK_BYTES`].
    pub size: usize,
    /// Whether any of it is in use or in a thread cache.
    pub occupied: bool,
    /// Size of a slot in bytes; 0 if the block is free.
    pub slot_size: usize,
    /// Number of slots; 1 if the block is lent as a whole, 0 if it is free.
    pub slots: usize,
    /// Slots in use. Slots in other threads' caches count, too.
    pub live_slots: usize,
}

/// # Safety
///
/// The allocator is NULL or initialised.
pub unsafe fn limit(
    allocator: *mut sys::MemoryAllocator,
    soft: Option<usize>,
    hard: Option<usize>,
) -> Result<(), HeapError> {
    // In C 0 means no limit, so a limit of 0 bytes becomes the smallest one.
    let bytes = |limit: Option<usize>| limit.map_or(0, |bytes| bytes.max(1));
    // SAFETY: the caller's promise.
    match unsafe { sys::valloc_set_limits(allocator, bytes(soft), bytes(hard)) } {
        0 => Ok(()),
        _ => Err(HeapError::Invalid),
    }
}

impl Heap {
    /// A heap with the default options.
    pub fn new() -> Result<Self, HeapError> {
        Self::builder().build()
    }

    /// Options for a new heap.
    pub fn builder() -> HeapBuilder<'static> {
        HeapBuilder {
            initial_blocks: 1,
            threads: 64,
            options: sys::valloc_options::default(),
            name: PhantomData,
        }
    }

    /// The allocator, for the C functions.
    pub(crate) fn raw(&self) -> *mut sys::MemoryAllocator {
        self.raw.as_ptr()
    }

    /// Allocates memory for the layout. It is valid until it is freed or the heap is dropped. Size
    /// 0 needs no memory.
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

    /// Frees an allocation.
    ///
    /// # Safety
    ///
    /// The allocation is from this heap, has this layout, and is not used afterwards.
    #[inline]
    pub unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller's promise.
            unsafe { sys::free_valloc(self.raw.as_ptr(), block.as_ptr().cast()) }
        }
    }

    /// Changes an allocation to a new layout, in place if possible. Bytes beyond the smaller size
    /// are unspecified. On an error the allocation is unchanged.
    ///
    /// # Safety
    ///
    /// The allocation is from this heap and has the old layout. After success it is not used.
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

    /// Moves a value into the heap, which frees it without running its destructor.
    // `&mut` from `&self`: every call returns other memory.
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

    /// Whether an allocation belongs to this heap. Only its first 64 KiB are recognised.
    pub fn owns<T: ?Sized>(&self, block: *const T) -> bool {
        // SAFETY: any address may be asked for; it is not dereferenced.
        unsafe { sys::owns(self.raw.as_ptr(), block.cast()) }
    }

    /// The current size of the heap.
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

    /// Changes the limits, in bytes. Fails with `HeapError::Invalid` if the soft limit is above the
    /// hard limit.
    pub fn set_limits(&self, soft: Option<usize>, hard: Option<usize>) -> Result<(), HeapError> {
        // SAFETY: the allocator is initialised.
        unsafe { limit(self.raw.as_ptr(), soft, hard) }
    }

    /// Visits every block and run in the order of addresses, until the visitor breaks. The visitor
    /// may use the heap. Changes in the meantime may be seen or not. A panic in the visitor aborts.
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

    /// Visits every size class in use, the smallest first, until the visitor breaks. A panic in the
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
        // SAFETY: the allocator is initialised. Nobody borrows it, so nobody uses it or its
        // allocations. Its own memory is from valloc_calloc.
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

/// A description of the heap: its blocks by slot size, how full they are, its limits.
impl fmt::Display for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw = self.raw.as_ptr();
        // SAFETY: the allocator is initialised; the rest is as `Sink` expects it.
        Sink::collect(f, |write, sink| unsafe { sys::valloc_dump(raw, write, sink) })
    }
}

/// The alignment of the functions without an alignment.
const MIN_ALIGN: usize = 16;

fn slice(memory: *mut c_void, size: usize) -> Result<NonNull<[u8]>, AllocError> {
    match NonNull::new(memory.cast::<u8>()) {
        Some(start) => Ok(NonNull::slice_from_raw_parts(start, size)),
        None => Err(AllocError),
    }
}

/// An allocation of 0 bytes: an aligned address without memory.
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

            // SAFETY: allocations stay valid until the heap is dropped, even if it is moved. The
            // functions above do what the trait requires.
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
