//! Options of the process: compiled in, and changed at run time.

use core::time::Duration;

use crate::{sys, HeapError};

/// Compiles options into a program: `"name=value,name=value"`. The names are those of the environment
/// variables, in lower case and without `VALLOC_`. The environment overrides these options, and the
/// functions of this crate override both. Use the macro once in a program.
///
/// ```
/// valloc::configure!("purge_delay_ms=1000,background=1");
/// # fn main() {}
/// ```
///
/// It defines the C variable `valloc_conf`, which valloc reads at the first allocation.
#[macro_export]
macro_rules! configure {
    ($options:expr) => {
        const _: () = {
            const OPTIONS: &[u8] = ::core::concat!($options, "\0").as_bytes();
            // A reference to an array is a pointer to its first byte, as C has it.
            #[no_mangle]
            #[used]
            #[allow(non_upper_case_globals)]
            static valloc_conf: &[u8; OPTIONS.len()] = match OPTIONS.first_chunk() {
                Some(options) => options,
                None => ::core::unreachable!(),
            };
        };
    };
}

/// When huge pages are requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// For small slots, once the heap is large.
    Auto,
    /// For all memory.
    Always,
    /// For none.
    Never,
}

/// Sets how long a free block stays before it may return to the kernel; the default is 200 ms.
/// Fractions of a millisecond are cut off.
///
/// ```
/// valloc::set_purge_delay(std::time::Duration::from_secs(1));
/// ```
pub fn set_purge_delay(delay: Duration) {
    let milliseconds = usize::try_from(delay.as_millis()).unwrap_or(usize::MAX);
    // SAFETY: may be called at any time.
    unsafe { sys::valloc_set_purge_delay(milliseconds) }
}

/// Sets when huge pages are requested, for memory that is mapped from now on. [`HugePages::Never`]
/// also takes earlier requests back.
///
/// ```
/// valloc::set_huge_pages(valloc::HugePages::Never);
/// ```
pub fn set_huge_pages(choice: HugePages) {
    let choice = match choice {
        HugePages::Auto => sys::VALLOC_HUGE_PAGES_AUTO,
        HugePages::Always => sys::VALLOC_HUGE_PAGES_ALWAYS,
        HugePages::Never => sys::VALLOC_HUGE_PAGES_NEVER,
    };
    // SAFETY: may be called at any time.
    unsafe { sys::valloc_set_huge_pages(choice) }
}

/// Sets the limits of the process, in bytes, all heaps together. Above the soft limit no free memory
/// is kept; allocations beyond the hard limit fail. Fails with `HeapError::Invalid` if the soft limit
/// is above the hard limit, or if valloc [forwards](crate::FORWARDS).
///
/// ```
/// # if !valloc::FORWARDS {
/// valloc::set_limits(Some(1 << 30), Some(2 << 30))?;
/// valloc::set_limits(None, None)?;
/// # }
/// # Ok::<(), valloc::HeapError>(())
/// ```
pub fn set_limits(soft: Option<usize>, hard: Option<usize>) -> Result<(), HeapError> {
    // SAFETY: the allocator of the process always exists.
    unsafe { crate::heap::limit(sys::valloc_process(), soft, hard) }
}
