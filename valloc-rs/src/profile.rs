//! A heap profile: where the memory in use was allocated, by samples.
//!
//! Compile with `-C force-frame-pointers=yes`: call stacks are followed by frame pointers.
//!
//! ```
//! # if !valloc::FORWARDS {
//! use valloc::profile::{self, Mode};
//!
//! profile::start(0, Mode::Live)?;
//! let dump = profile::dump_pprof(); // for `go tool pprof`
//! profile::stop();
//! # assert!(!dump.is_empty());
//! # }
//! # Ok::<(), valloc::profile::StartError>(())
//! ```

extern crate alloc;

use alloc::vec::Vec;
use core::ffi::{c_int, c_void};
use core::fmt;
use core::ptr::addr_of_mut;
use core::slice;

use crate::sys;

/// What a profile tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What is in use.
    Live,
    /// Also what was allocated since the start.
    All,
}

/// No profile has started: one is on, there is no memory, or the build has no profiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartError;

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("no heap profile has started")
    }
}

impl core::error::Error for StartError {}

/// Starts a profile with a mean of `rate` bytes between samples; 0 is the default, 512 KiB. An
/// earlier one is dropped. While it is on allocations are slower.
pub fn start(rate: usize, mode: Mode) -> Result<(), StartError> {
    let mode = match mode {
        Mode::Live => sys::VALLOC_PROFILE_LIVE,
        Mode::All => sys::VALLOC_PROFILE_ALL,
    };
    // SAFETY: may be called at any time.
    match unsafe { sys::valloc_profile_start(rate, mode) } {
        0 => Ok(()),
        _ => Err(StartError),
    }
}

/// Takes no more samples. Those in use are followed until they are freed, and can be dumped.
pub fn stop() {
    // SAFETY: may be called at any time.
    unsafe { sys::valloc_profile_stop() }
}

/// Stops the profile when it is dropped.
#[derive(Debug)]
#[must_use = "the profile stops when the guard is dropped"]
pub struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        stop();
    }
}

/// Starts a profile for as long as the guard lives.
///
/// ```
/// # if !valloc::FORWARDS {
/// use valloc::profile::{self, Mode};
///
/// let guard = profile::guard(4096, Mode::All)?;
/// let numbers: Vec<usize> = (0..100_000).collect();
/// drop(guard); // what is allocated from now on is not sampled
/// let dump = profile::dump_pprof_all();
/// # assert!(!dump.is_empty() && numbers.len() == 100_000);
/// # }
/// # Ok::<(), valloc::profile::StartError>(())
/// ```
pub fn guard(rate: usize, mode: Mode) -> Result<Guard, StartError> {
    start(rate, mode).map(|()| Guard(()))
}

/// The profile as it is now, in the format of pprof; empty if none was started.
pub fn dump_pprof() -> Vec<u8> {
    dump(sys::VALLOC_PROFILE_PPROF)
}

/// The same, but pprof shows first what was allocated since the start, with [`Mode::All`].
pub fn dump_pprof_all() -> Vec<u8> {
    dump(sys::VALLOC_PROFILE_PPROF_ALL)
}

/// The memory in use by call stack, a line each, as flame graphs are made from:
/// `outer;inner;innermost BYTES`. Empty if no profile was started.
pub fn dump_folded() -> Vec<u8> {
    dump(sys::VALLOC_PROFILE_FOLDED)
}

fn dump(format: sys::valloc_profile_format) -> Vec<u8> {
    let mut dump = Vec::new();
    // SAFETY: `append` gets the vector that it expects.
    let result = unsafe {
        sys::valloc_profile_dump(format, Some(append), addr_of_mut!(dump).cast::<c_void>())
    };
    if result != 0 {
        dump.clear();
    }
    dump
}

unsafe extern "C" fn append(dump: *mut c_void, bytes: *const c_void, count: usize) -> c_int {
    // SAFETY: the library passes so many bytes, and the vector of `dump`.
    let (dump, bytes) =
        unsafe { (&mut *dump.cast::<Vec<u8>>(), slice::from_raw_parts(bytes.cast::<u8>(), count)) };
    c_int::from(match dump.try_reserve(count) {
        Ok(()) => {
            dump.extend_from_slice(bytes);
            false
        }
        Err(_) => true,
    })
}
