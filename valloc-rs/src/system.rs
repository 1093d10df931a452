//! Stands for the C core where valloc has no port: the functions that this crate calls, on
//! [`std::alloc::System`]. The global allocator passes layouts on. A heap's allocations have a
//! header, so that its limits hold and dropping it frees them.

extern crate std;

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{c_char, c_int, c_void, CStr};
use core::mem::size_of;
use core::ptr::{addr_of_mut, null_mut, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::alloc::System;
use std::boxed::Box;
use std::ffi::CString;
use std::format;
use std::string::String;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use valloc_sys::{
    valloc_cache_stats, valloc_class_stats, valloc_huge_pages, valloc_options,
    valloc_profile_format, valloc_profile_mode, valloc_stats, valloc_stats_format, MemoryAllocator,
    MemoryBlock, VALLOC_BLOCK_BYTES, VALLOC_BLOCK_OCCUPIED, VALLOC_HUGE_PAGES_ALWAYS,
    VALLOC_HUGE_PAGES_AUTO, VALLOC_HUGE_PAGES_NEVER, VALLOC_MAX_THREADS, VALLOC_PROFILE_ALL,
    VALLOC_PROFILE_FOLDED, VALLOC_PROFILE_LIVE, VALLOC_PROFILE_PPROF, VALLOC_PROFILE_PPROF_ALL,
    VALLOC_STATS_JSON, VALLOC_STATS_PROMETHEUS, VALLOC_STATS_TEXT,
};

// SAFETY: every call is the system's own.
unsafe impl GlobalAlloc for crate::Valloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

// ---- The process ----

pub unsafe fn valloc_usable_size(_: *const c_void) -> usize {
    0
}

pub unsafe fn valloc_good_size(size: usize) -> usize {
    size
}

pub unsafe fn valloc_purge() -> usize {
    0
}

pub unsafe fn valloc_background_purge(_: c_int) -> c_int {
    -1
}

pub unsafe fn valloc_defrag_hint(_: *const c_void) -> c_int {
    0
}

pub unsafe fn valloc_set_purge_delay(_: usize) {}

pub unsafe fn valloc_set_huge_pages(_: valloc_huge_pages) {}

/// The system's allocator cannot be limited.
pub unsafe fn valloc_process() -> *mut MemoryAllocator {
    null_mut()
}

pub unsafe fn valloc_version() -> c_int {
    valloc_sys::VALLOC_VERSION as c_int
}

// ---- Batches: one by one ----

pub unsafe fn allocate_batch(
    allocator: *mut MemoryAllocator,
    layout: Layout,
    count: usize,
    first: *mut *mut c_void,
) -> usize {
    for i in 0..count {
        // SAFETY: the caller's promise.
        unsafe {
            let block = if allocator.is_null() {
                System.alloc(layout).cast()
            } else {
                valloc_allocate_aligned(allocator, layout.align(), layout.size())
            };
            if block.is_null() {
                return i;
            }
            first.add(i).write(block);
        }
    }
    count
}

pub unsafe fn free_batch(allocator: *mut MemoryAllocator, layout: Layout, blocks: &[NonNull<u8>]) {
    for block in blocks {
        // SAFETY: the caller's promise.
        unsafe {
            if allocator.is_null() {
                System.dealloc(block.as_ptr(), layout);
            } else {
                free_valloc(allocator, block.as_ptr().cast());
            }
        }
    }
}

// ---- Statistics: there are none ----

type Write = Option<unsafe extern "C" fn(*mut c_void, *const c_char)>;

pub unsafe fn valloc_get_stats(_: *mut valloc_stats) {}

pub unsafe fn valloc_stats_classes(
    _: *const MemoryAllocator,
    _: Option<unsafe extern "C" fn(*const valloc_class_stats, *mut c_void) -> c_int>,
    _: *mut c_void,
) -> c_int {
    0
}

pub unsafe fn valloc_stats_caches(
    _: Option<unsafe extern "C" fn(*const valloc_cache_stats, *mut c_void) -> c_int>,
    _: *mut c_void,
) -> c_int {
    0
}

pub unsafe fn valloc_stats_print(format: valloc_stats_format, write: Write, context: *mut c_void) {
    let text = if format == VALLOC_STATS_JSON {
        format!(
            "{{\"version\":{},\"forwards\":true,\"classes\":[],\"thread_caches\":[]}}\n",
            valloc_sys::VALLOC_VERSION
        )
    } else if format == VALLOC_STATS_PROMETHEUS {
        String::new()
    } else {
        "valloc has no port for this target: the system allocates, without statistics\n".into()
    };
    // SAFETY: the caller's function and its argument.
    unsafe { print(write, context, text) }
}

/// # Safety
///
/// `write` may be called with `context` and any text.
unsafe fn print(write: Write, context: *mut c_void, text: String) {
    if let (Some(write), Ok(text)) = (write, CString::new(text)) {
        // SAFETY: the caller's promise.
        unsafe { write(context, text.as_ptr()) }
    }
}

pub unsafe fn valloc_stats_write(_: c_int) {}

// ---- Heap profile: there is none ----

pub unsafe fn valloc_profile_start(_: usize, _: valloc_profile_mode) -> c_int {
    -1
}

pub unsafe fn valloc_profile_stop() {}

pub unsafe fn valloc_profile_dump(
    _: valloc_profile_format,
    _: Option<unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> c_int>,
    _: *mut c_void,
) -> c_int {
    -1
}

// ---- Heaps ----

/// Before each allocation of a heap: the list of all of them, and what was requested.
struct Header {
    next: *mut Header,
    previous: *mut Header,
    layout: Layout,
}

/// All of a heap but its counters and its name.
struct State {
    first: *mut Header,
    bytes: usize, // with headers
    initial_blocks: usize,
    hard_limit: usize,
}

/// The alignment of the functions without one.
const MIN_ALIGN: usize = 16;

/// The layout of an allocation with its header, and the distance between the two.
fn with_header(layout: Layout) -> Option<(Layout, usize)> {
    Layout::new::<Header>().align_to(layout.align()).ok()?.pad_to_align().extend(layout).ok()
}

/// By the address: the caller's pointer may come from a reference to the allocation, which does not
/// reach the header. `allocate` exposes what does.
fn header_of(memory: *mut c_void) -> *mut Header {
    (memory as usize - size_of::<Header>()) as *mut Header
}

/// # Safety
///
/// The heap is initialised and lives as long as the result.
unsafe fn lock<'a>(heap: *mut MemoryAllocator) -> MutexGuard<'a, State> {
    // SAFETY: `valloc_init_with` has put it there; it is not changed.
    let state = unsafe { &*(*heap).allocator.cast::<Mutex<State>>() };
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Safety
///
/// The heap is valid; its counters are only read and written as atomics.
unsafe fn count(heap: *mut MemoryAllocator, state: &State) {
    let used = state.bytes.div_ceil(VALLOC_BLOCK_BYTES as usize);
    // SAFETY: the caller's promise.
    unsafe {
        AtomicUsize::from_ptr(addr_of_mut!((*heap).used_blocks)).store(used, Ordering::Relaxed);
        AtomicUsize::from_ptr(addr_of_mut!((*heap).total_blocks))
            .store(used.max(state.initial_blocks), Ordering::Relaxed);
    }
}

/// The structure of a heap, which is the only thing that this function is asked for.
pub unsafe fn valloc_calloc(count: usize, size: usize) -> *mut c_void {
    debug_assert_eq!(count * size, size_of::<MemoryAllocator>());
    // SAFETY: its size is not 0.
    unsafe { System.alloc_zeroed(Layout::new::<MemoryAllocator>()).cast() }
}

/// Frees the structure of a heap.
pub unsafe fn valloc_free(heap: *mut c_void) {
    // SAFETY: allocated above.
    unsafe { System.dealloc(heap.cast(), Layout::new::<MemoryAllocator>()) }
}

pub unsafe fn valloc_init_with(
    heap: *mut MemoryAllocator,
    initial_blocks: usize,
    _threads: c_int,
    options: *const valloc_options,
) -> c_int {
    // SAFETY: the caller's pointer.
    let options = unsafe { *options };
    let Some(least) = initial_blocks.checked_mul(VALLOC_BLOCK_BYTES as usize) else {
        return -1;
    };
    let below = |limit: usize| limit != 0 && limit < least;
    let (soft, hard) = (options.soft_limit, options.hard_limit);
    if below(soft) || below(hard) || (hard != 0 && soft > hard) {
        return -1;
    }
    let state = State { first: null_mut(), bytes: 0, initial_blocks, hard_limit: hard };
    // SAFETY: the structure is the caller's alone, all zero; the name is NULL or a string.
    unsafe {
        count(heap, &state);
        (*heap).allocator = Box::into_raw(Box::new(Mutex::new(state))).cast();
        if !options.name.is_null() {
            let name = CStr::from_ptr(options.name).to_bytes();
            let places = (*heap).name.iter_mut().rev().skip(1).rev();
            places.zip(name).for_each(|(place, &byte)| *place = byte as c_char);
        }
    }
    0
}

pub unsafe fn valloc_destroy(heap: *mut MemoryAllocator) {
    // SAFETY: nobody else uses the heap or its allocations.
    unsafe {
        let state = Box::from_raw((*heap).allocator.cast::<Mutex<State>>());
        let mut next = state.lock().unwrap_or_else(PoisonError::into_inner).first;
        while let Some(header) = NonNull::new(next) {
            next = header.as_ref().next;
            release(header.as_ptr());
        }
    }
}

/// Gives an allocation that is in no list back to the system.
///
/// # Safety
///
/// The header is of a live allocation.
unsafe fn release(header: *mut Header) {
    // SAFETY: allocated by `allocate` with this layout.
    unsafe {
        if let Some((whole, offset)) = with_header((*header).layout) {
            System.dealloc(header.add(1).cast::<u8>().sub(offset), whole);
        }
    }
}

/// # Safety
///
/// The heap is initialised.
unsafe fn allocate(
    heap: *mut MemoryAllocator,
    alignment: usize,
    size: usize,
    zeroed: bool,
) -> *mut c_void {
    let Ok(layout) = Layout::from_size_align(size, alignment) else {
        return null_mut();
    };
    let Some((whole, offset)) = with_header(layout) else {
        return null_mut();
    };
    // SAFETY: the sizes are not 0; the header lies before the memory, `offset` has room for it. The
    // list is locked.
    unsafe {
        let mut state = lock(heap);
        let bytes = state.bytes.saturating_add(whole.size());
        if state.hard_limit != 0 && bytes > state.hard_limit {
            return null_mut();
        }
        let start = if zeroed { System.alloc_zeroed(whole) } else { System.alloc(whole) };
        if start.is_null() {
            return null_mut();
        }
        let memory: *mut c_void = start.add(offset).cast();
        let header = header_of(memory); // the cast to an address exposes it
        header.write(Header { next: state.first, previous: null_mut(), layout });
        if let Some(next) = NonNull::new(state.first) {
            (*next.as_ptr()).previous = header;
        }
        state.first = header;
        state.bytes = bytes;
        count(heap, &state);
        memory
    }
}

/// Frees an allocation, which is in the heap's list.
pub unsafe fn free_valloc(heap: *mut MemoryAllocator, memory: *mut c_void) {
    let header = header_of(memory);
    // SAFETY: the caller's promise; the list is locked while it changes.
    unsafe {
        let mut state = lock(heap);
        let Header { next, previous, layout } = header.read();
        match NonNull::new(previous) {
            Some(previous) => (*previous.as_ptr()).next = next,
            None => state.first = next,
        }
        if let Some(next) = NonNull::new(next) {
            (*next.as_ptr()).previous = previous;
        }
        state.bytes -= with_header(layout).map_or(0, |(whole, _)| whole.size());
        count(heap, &state);
        drop(state);
        release(header);
    }
}

/// Always moves: the system's own realloc would move the header, to which the list refers.
pub unsafe fn valloc_reallocate_aligned(
    heap: *mut MemoryAllocator,
    memory: *mut c_void,
    alignment: usize,
    size: usize,
) -> *mut c_void {
    // SAFETY: the caller's promise; both allocations have the bytes that are copied.
    unsafe {
        let moved = valloc_allocate_aligned(heap, alignment, size);
        if !moved.is_null() {
            let kept = size.min((*header_of(memory)).layout.size());
            moved.cast::<u8>().copy_from_nonoverlapping(memory.cast(), kept);
            free_valloc(heap, memory);
        }
        moved
    }
}

pub unsafe fn valloc_allocate(heap: *mut MemoryAllocator, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { allocate(heap, MIN_ALIGN, size, false) }
}

pub unsafe fn valloc_allocate_aligned(
    heap: *mut MemoryAllocator,
    alignment: usize,
    size: usize,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { allocate(heap, alignment, size, false) }
}

pub unsafe fn valloc_allocate_zeroed(
    heap: *mut MemoryAllocator,
    count: usize,
    size: usize,
) -> *mut c_void {
    // SAFETY: the caller's promise; the crate passes a count of 1.
    unsafe { allocate(heap, MIN_ALIGN, count * size, true) }
}

pub unsafe fn valloc_allocate_aligned_zeroed(
    heap: *mut MemoryAllocator,
    alignment: usize,
    size: usize,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { allocate(heap, alignment, size, true) }
}

/// Whether an address lies in an allocation of the heap.
pub unsafe fn owns(heap: *mut MemoryAllocator, address: *const c_void) -> bool {
    // SAFETY: the heap is initialised; its list is locked.
    unsafe {
        let state = lock(heap);
        let mut next = state.first;
        while let Some(header) = NonNull::new(next) {
            let start = header.as_ptr().add(1) as usize;
            if (start..start + header.as_ref().layout.size()).contains(&(address as usize)) {
                return true;
            }
            next = header.as_ref().next;
        }
        false
    }
}

pub unsafe fn valloc_set_limits(heap: *mut MemoryAllocator, soft: usize, hard: usize) -> c_int {
    if heap.is_null() || (hard != 0 && soft > hard) {
        return -1;
    }
    // SAFETY: the heap is initialised.
    unsafe { lock(heap) }.hard_limit = hard;
    0
}

/// Visits nothing: the system does not say which blocks it has.
pub unsafe fn valloc_blocks(
    _: *mut MemoryAllocator,
    _: Option<unsafe extern "C" fn(*const MemoryBlock, *mut c_void) -> c_int>,
    _: *mut c_void,
) -> c_int {
    0
}

pub unsafe fn valloc_dump(heap: *mut MemoryAllocator, write: Write, context: *mut c_void) {
    // SAFETY: the heap is initialised, its name ends with 0; the rest are the caller's.
    unsafe {
        let (bytes, name) = (lock(heap).bytes, CStr::from_ptr((*heap).name.as_ptr()));
        let name = name.to_string_lossy();
        print(write, context, format!("allocator '{name}': {bytes} bytes of the system's\n"));
    }
}
