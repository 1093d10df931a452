//! Where memory stands, in figures and as text.

use core::ffi::{c_char, c_int, c_void, CStr};
use core::fmt;
use core::ops::ControlFlow;
use core::ptr::{addr_of_mut, null};

use valloc_sys as sys;

/// Where the process's memory stands, all heaps together. Sizes in bytes.
///
/// `lent == live + cached + free_slots + spare + slack`, and what is committed beyond `lent + dirty`
/// was never used or has been given back. Exact as long as no other thread allocates or frees.
///
/// `resident` is an upper bound of what the kernel counts: it takes all that was allocated for
/// written to. If it was, the kernel counts less by at most 256 KiB, 2 % of the most it ever
/// counted, and those parts of `cached`, `slack` and `dirty` that were never touched; it counts
/// more, by a few MiB at most, only where huge pages are in use.
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
    /// Address space mapped: blocks and tables.
    pub reserved: usize,
    /// Of it, accessible to the program's data.
    pub committed: usize,
    /// Of that and of `metadata`, in memory, as an estimate.
    pub resident: usize,
    /// In blocks cut into slots, or lent whole.
    pub lent: usize,
    /// In slots and whole blocks not freed, as rounded up for their size class.
    pub live: usize,
    /// In slots freed that thread caches hold, or have on the way to another thread's slab.
    pub cached: usize,
    /// In slots of slabs, freed or never used.
    pub free_slots: usize,
    /// In blocks kept for the next slabs and large requests.
    pub spare: usize,
    /// In the ends of slabs, too short for a slot.
    pub slack: usize,
    /// In free blocks not given back to the system yet.
    pub dirty: usize,
    /// Given back to the system since the start.
    pub purged: usize,
    /// Accessible for the allocator's own tables; mostly not resident.
    pub metadata: usize,
    /// What the stacks of all thread caches may hold at most.
    pub cache_limit: usize,
    /// Thread caches in use.
    pub threads: usize,
    /// Thread caches ever made.
    pub caches: usize,
}

/// The statistics as of now, in time proportional to the memory in use: about a millisecond for a
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

/// One figure a line, in KiB.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// Bytes of a slot; 0 for all allocations above 1 MiB, each one slot.
    pub slot_size: usize,
    /// Blocks of 64 KiB that they lie in.
    pub blocks: usize,
    /// Slots that these are cut into.
    pub slots: usize,
    /// Slots not freed.
    pub live: usize,
    /// Slots in thread caches, or on the way to another thread's slab.
    pub cached: usize,
    /// Slots that slabs have, freed or never used.
    pub free_slots: usize,
    /// Bytes of the live ones.
    pub live_bytes: usize,
}

/// What a thread cache holds. Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Of the thread; a heap's cache has a number of its own.
    pub id: usize,
    /// What it holds.
    pub cached: usize,
    /// What its stacks may hold.
    pub limit: usize,
    /// Whether it has a thread at present; always, if it is a heap's.
    pub in_use: bool,
    /// Whether it belongs to the allocator of the process.
    pub of_process: bool,
}

/// Visits every size class in use, the smallest first, until the visitor breaks. A panic of the
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
        };
        c_int::from(visit(&class).is_break())
    }
    // SAFETY: the caller's promise; `visit` outlives the call.
    let result = unsafe {
        sys::valloc_stats_classes(allocator, Some(call::<F>), addr_of_mut!(visit).cast())
    };
    flow(result)
}

/// Visits every thread cache ever made until the visitor breaks. A panic of the visitor aborts.
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

/// How [`print_stats`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatsFormat {
    /// A table for a person.
    Text,
    /// One object with the members of [`Stats`], `version`, and the arrays `classes` and
    /// `thread_caches`.
    Json,
}

/// Writes all statistics: figures, size classes, thread caches.
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
    };
    // SAFETY: `Sink::write` gets what it expects, see there.
    Sink::collect(out, |write, sink| unsafe { sys::valloc_stats_print(format, write, sink) })
}

/// Writes one line of counters to a file descriptor. Async-signal-safe: takes no lock.
pub fn write_stats(file: c_int) {
    // SAFETY: may be called at any time; a bad descriptor is no harm.
    unsafe { sys::valloc_stats_write(file) }
}

fn flow(result: c_int) -> ControlFlow<()> {
    if result == 0 {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// Passes the library's pieces of text on to a writer.
pub(crate) struct Sink<'a> {
    out: &'a mut dyn fmt::Write,
    result: fmt::Result,
}

type Write = Option<unsafe extern "C" fn(*mut c_void, *const c_char)>;

impl Sink<'_> {
    /// `print` hands both of its arguments to the library, which calls the first with the second.
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
