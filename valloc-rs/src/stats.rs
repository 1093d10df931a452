//! Statistics, as figures and as text.

use core::ffi::{c_char, c_int, c_void, CStr};
use core::fmt;
use core::ops::ControlFlow;
use core::ptr::{addr_of_mut, null};

use crate::sys;

/// The memory of the process, all heaps together, in bytes. Exact while no other thread allocates
/// or frees.
///
/// `lent == live + cached + free_slots + spare + slack`. The rest of `committed`, apart from
/// `dirty`, was never used or is purged.
///
/// `resident` assumes that the program writes to everything it allocates. If so, the kernel counts
/// less by at most the sum of
///
/// * 256 KiB,
/// * 2 % of its own maximum so far, and
/// * the parts of `cached`, `slack` and `dirty` that were never touched.
///
/// It counts more, by a few MiB at most, only with huge pages.
///
/// ```
/// let heap = valloc::Heap::new()?;
/// let _bytes = heap.alloc_slice(&[1u8; 300_000]).unwrap();
/// assert!(valloc::stats().live >= 300_000);
/// println!("{}", valloc::stats());
/// # Ok::<(), valloc::HeapError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Mapped address space: blocks and tables.
    pub reserved: usize,
    /// The accessible part of it, without tables.
    pub committed: usize,
    /// The part of `committed` and `metadata` in memory, estimated.
    pub resident: usize,
    /// Slabs and runs.
    pub lent: usize,
    /// Allocations that are not freed, rounded up to their size class.
    pub live: usize,
    /// Freed slots in thread caches, and in batches for other threads' slabs.
    pub cached: usize,
    /// Slots in slabs, freed or never used.
    pub free_slots: usize,
    /// Unused blocks kept for large requests, and by heaps.
    pub spare: usize,
    /// Ends of slabs that are too short for a slot.
    pub slack: usize,
    /// Free blocks that are not purged yet.
    pub dirty: usize,
    /// Returned to the kernel since the start, a running total.
    pub purged: usize,
    /// Accessible for valloc's own tables; mostly not resident.
    pub metadata: usize,
    /// How much the stacks of all thread caches may hold.
    pub cache_limit: usize,
    /// Thread caches in use (count).
    pub threads: usize,
    /// Thread caches ever made (count).
    pub caches: usize,
}

/// The current statistics. Takes time in proportion to the memory in use: about a millisecond for a
/// gigabyte of small objects.
pub fn stats() -> Stats {
    let mut raw = sys::valloc_stats::default();
    // SAFETY: the pointer is valid for a write of the whole structure.
    unsafe { sys::valloc_get_stats(&mut raw) };
    Stats {
        reserved: raw.reserved,
        committed: raw.committed,
        resident: raw.resident,
        lent: raw.lent,
        live: raw.live,
        cached: raw.cached,
        free_slots: raw.free_slots,
        spare: raw.spare,
        slack: raw.slack,
        dirty: raw.dirty,
        purged: raw.purged,
        metadata: raw.metadata,
        cache_limit: raw.cache_limit,
        threads: raw.threads,
        caches: raw.caches,
    }
}

/// One figure per line, in KiB.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if crate::FORWARDS {
            return f.write_str("no statistics: valloc has no port for this target");
        }
        for (name, bytes) in [
            ("reserved", self.reserved),
            ("committed", self.committed),
            ("resident", self.resident),
            ("lent", self.lent),
            ("live", self.live),
            ("cached", self.cached),
            ("free slots", self.free_slots),
            ("spare", self.spare),
            ("slack", self.slack),
            ("dirty", self.dirty),
            ("purged", self.purged),
            ("metadata", self.metadata),
            ("cache limit", self.cache_limit),
        ] {
            writeln!(f, "{name:12}{:14} KiB", bytes >> 10)?;
        }
        writeln!(f, "{:12}{:14}", "threads", self.threads)?;
        write!(f, "{:12}{:14}", "caches", self.caches)
    }
}

/// A size class: `slots == live + cached + free_slots`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// Size of a slot in bytes; 0 for all allocations above 1 MiB, which count as one slot each.
    pub slot_size: usize,
    /// Blocks of 64 KiB.
    pub blocks: usize,
    /// Slots in these blocks.
    pub slots: usize,
    /// Slots that the program has not freed.
    pub live: usize,
    /// Freed slots in thread caches, and in batches for other threads' slabs.
    pub cached: usize,
    /// Slots in slabs, freed or never used (count).
    pub free_slots: usize,
    /// Bytes in live slots.
    pub live_bytes: usize,
    /// Slots taken from these blocks by refills since the start, a running total:
    /// `refilled - live - cached` of them were flushed. Frees that stay in a thread cache serve the
    /// next allocations, which are not counted.
    pub refilled: usize,
}

/// A thread cache. Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Id of the thread; a number of its own in a heap.
    pub id: usize,
    /// How much it holds.
    pub cached: usize,
    /// How much its stacks may hold.
    pub limit: usize,
    /// Whether it has a thread now; always true in a heap.
    pub in_use: bool,
    /// Whether it belongs to the allocator of the process.
    pub of_process: bool,
}

/// Visits every size class in use, the smallest first, until the visitor breaks. A panic in the
/// visitor aborts.
///
/// ```
/// use std::ops::ControlFlow;
/// let mut live = 0;
/// let _ = valloc::visit_classes(|class| {
///     live += class.live_bytes;
///     ControlFlow::Continue(())
/// });
/// ```
pub fn visit_classes<F>(visit: F) -> ControlFlow<()>
where
    F: FnMut(&ClassStats) -> ControlFlow<()>,
{
    // SAFETY: NULL stands for all allocators.
    unsafe { visit_classes_of(null(), visit) }
}

/// # Safety
///
/// The allocator is initialised, or NULL.
pub(crate) unsafe fn visit_classes_of<F>(
    allocator: *const sys::MemoryAllocator,
    mut visit: F,
) -> ControlFlow<()>
where
    F: FnMut(&ClassStats) -> ControlFlow<()>,
{
    extern "C" fn call<F>(raw: *const sys::valloc_class_stats, visit: *mut c_void) -> c_int
    where
        F: FnMut(&ClassStats) -> ControlFlow<()>,
    {
        // SAFETY: both are what `visit_classes_of` and the library pass.
        let (raw, visit) = unsafe { (&*raw, &mut *visit.cast::<F>()) };
        let class = ClassStats {
            slot_size: raw.slot_size,
            blocks: raw.blocks,
            slots: raw.slots,
            live: raw.live,
            cached: raw.cached,
            free_slots: raw.free_slots,
            live_bytes: raw.live_bytes,
            refilled: raw.refilled,
        };
        c_int::from(visit(&class).is_break())
    }
    // SAFETY: the caller's promise; `visit` outlives the call.
    let result = unsafe {
        sys::valloc_stats_classes(allocator, Some(call::<F>), addr_of_mut!(visit).cast())
    };
    flow(result)
}

/// Visits every thread cache ever made, until the visitor breaks. A panic in the visitor aborts.
pub fn visit_caches<F>(mut visit: F) -> ControlFlow<()>
where
    F: FnMut(&CacheStats) -> ControlFlow<()>,
{
    extern "C" fn call<F>(raw: *const sys::valloc_cache_stats, visit: *mut c_void) -> c_int
    where
        F: FnMut(&CacheStats) -> ControlFlow<()>,
    {
        // SAFETY: both are what `visit_caches` and the library pass.
        let (raw, visit) = unsafe { (&*raw, &mut *visit.cast::<F>()) };
        let cache = CacheStats {
            id: raw.id,
            cached: raw.cached,
            limit: raw.limit,
            in_use: raw.in_use != 0,
            of_process: raw.of_process != 0,
        };
        c_int::from(visit(&cache).is_break())
    }
    // SAFETY: `visit` outlives the call.
    let result = unsafe { sys::valloc_stats_caches(Some(call::<F>), addr_of_mut!(visit).cast()) };
    flow(result)
}

/// The format of [`print_stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatsFormat {
    /// Tables for people.
    Text,
    /// One JSON object with the members of [`Stats`], `version`, and the arrays `classes` and
    /// `thread_caches`. If valloc [forwards](crate::FORWARDS): `version`, `"forwards":true` and two
    /// empty arrays.
    Json,
    /// Metrics in the text format of Prometheus: the totals, and those of each size class.
    Prometheus,
}

/// Writes all statistics: totals, size classes, thread caches.
///
/// ```
/// let mut text = String::new();
/// valloc::print_stats(valloc::StatsFormat::Json, &mut text)?;
/// assert!(text.starts_with("{\"version\":"));
/// # Ok::<(), std::fmt::Error>(())
/// ```
pub fn print_stats(format: StatsFormat, out: &mut dyn fmt::Write) -> fmt::Result {
    let format = match format {
        StatsFormat::Text => sys::VALLOC_STATS_TEXT,
        StatsFormat::Json => sys::VALLOC_STATS_JSON,
        StatsFormat::Prometheus => sys::VALLOC_STATS_PROMETHEUS,
    };
    // SAFETY: `Sink::write` gets the arguments that it expects.
    Sink::collect(out, |write, sink| unsafe { sys::valloc_stats_print(format, write, sink) })
}

/// Writes one line of counters to a file descriptor. It takes no lock and is async-signal-safe.
pub fn write_stats(file: c_int) {
    // SAFETY: may be called at any time, with any descriptor.
    unsafe { sys::valloc_stats_write(file) }
}

fn flow(result: c_int) -> ControlFlow<()> {
    if result == 0 {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// Passes the library's text to a writer.
pub(crate) struct Sink<'a> {
    out: &'a mut dyn fmt::Write,
    result: fmt::Result,
}

type Write = Option<unsafe extern "C" fn(*mut c_void, *const c_char)>;

impl Sink<'_> {
    /// `print` passes both of its arguments to the library, which calls the first with the second.
    pub(crate) fn collect(
        out: &mut dyn fmt::Write,
        print: impl FnOnce(Write, *mut c_void),
    ) -> fmt::Result {
        let mut sink = Sink { out, result: Ok(()) };
        print(Some(Self::write), addr_of_mut!(sink).cast());
        sink.result
    }

    extern "C" fn write(sink: *mut c_void, text: *const c_char) {
        // SAFETY: the library passes a string, and the sink of `collect`.
        let (sink, text) = unsafe { (&mut *sink.cast::<Sink>(), CStr::from_ptr(text)) };
        let text = text.to_str().unwrap_or("(not in UTF-8)\n");
        sink.result = sink.result.and_then(|()| sink.out.write_str(text));
    }
}
