//! Every call of the global allocator as a thread's first one, at every moment of a thread and of
//! the process. The calls go to `Valloc` directly: what Rust allocates for a thread itself goes to
//! the system, so that no call comes before the one under test.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::Mutex;
use std::thread;

use valloc::Valloc;

#[global_allocator]
static SYSTEM: System = System;

const SMALL: Layout = match Layout::from_size_align(100, 8) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};
const LARGE: Layout = match Layout::from_size_align(5 << 20, 8) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};
const ALIGNED: Layout = match Layout::from_size_align(100, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};

/// A block of another thread, for calls that free or resize one.
static FOREIGN: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

fn round_trip(layout: Layout) {
    // SAFETY: the size is not 0; freed once with its layout.
    unsafe {
        let block = Valloc.alloc(layout);
        assert!(!block.is_null() && block as usize % layout.align() == 0);
        block.write_bytes(1, layout.size());
        Valloc.dealloc(block, layout);
    }
}

fn alloc() {
    round_trip(SMALL);
}

fn alloc_large() {
    round_trip(LARGE);
}

fn alloc_aligned() {
    round_trip(ALIGNED);
}

fn alloc_zeroed() {
    // SAFETY: as above; the block has this many bytes.
    unsafe {
        let block = Valloc.alloc_zeroed(SMALL);
        assert!(!block.is_null());
        assert!(std::slice::from_raw_parts(block, SMALL.size()).iter().all(|byte| *byte == 0));
        Valloc.dealloc(block, SMALL);
    }
}

fn dealloc_foreign() {
    let block = FOREIGN.swap(std::ptr::null_mut(), Ordering::AcqRel);
    if !block.is_null() {
        // SAFETY: `prepare` allocated it with this layout; nobody else has it now.
        unsafe { Valloc.dealloc(block, SMALL) };
    }
}

fn realloc_foreign() {
    let block = FOREIGN.swap(std::ptr::null_mut(), Ordering::AcqRel);
    if !block.is_null() {
        // SAFETY: as above; then freed with its new size.
        unsafe {
            let block = Valloc.realloc(block, SMALL, 5000);
            assert!(!block.is_null() && *block == 7);
            Valloc.dealloc(block, Layout::from_size_align(5000, SMALL.align()).unwrap());
        }
    }
}

fn ask() {
    assert!(valloc::good_size(100) >= 100);
    assert!(valloc::stats().reserved > 0);
}

fn purge() {
    valloc::purge();
}

const CALLS: [(&str, fn()); 8] = [
    ("alloc", alloc),
    ("alloc_large", alloc_large),
    ("alloc_aligned", alloc_aligned),
    ("alloc_zeroed", alloc_zeroed),
    ("dealloc of another thread's block", dealloc_foreign),
    ("realloc of another thread's block", realloc_foreign),
    ("good_size and stats", ask),
    ("purge", purge),
];

fn prepare() {
    // SAFETY: the size is not 0; the block has this many bytes.
    unsafe {
        let block = Valloc.alloc(SMALL);
        assert!(!block.is_null());
        block.write_bytes(7, SMALL.size());
        let left = FOREIGN.swap(block, Ordering::AcqRel);
        if !left.is_null() {
            Valloc.dealloc(left, SMALL);
        }
    }
}

/// The tests share FOREIGN.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn in_a_new_thread() {
    let _alone = ALONE.lock().unwrap();
    for (name, call) in CALLS {
        prepare();
        thread::spawn(call).join().unwrap_or_else(|_| panic!("{name}"));
    }
}

/// Calls what it holds when the thread's local data is destroyed.
struct OnExit(Cell<Option<fn()>>);

static DESTROYED: AtomicUsize = AtomicUsize::new(0);

impl Drop for OnExit {
    fn drop(&mut self) {
        if let Some(call) = self.0.get() {
            call();
            call(); // after the first, the thread may have got a cache
            DESTROYED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

thread_local! {
    static FIRST: OnExit = const { OnExit(Cell::new(None)) };
    static SECOND: OnExit = const { OnExit(Cell::new(None)) };
}

#[test]
fn in_destructors_of_thread_local_data() {
    let _alone = ALONE.lock().unwrap();
    for (name, call) in CALLS {
        for used_before in [false, true] {
            prepare();
            let before = DESTROYED.load(Ordering::Relaxed);
            thread::spawn(move || {
                if used_before {
                    alloc();
                }
                FIRST.with(|on_exit| on_exit.0.set(Some(call)));
                SECOND.with(|on_exit| on_exit.0.set(Some(call)));
            })
            .join()
            .unwrap_or_else(|_| panic!("{name}"));
            assert_eq!(DESTROYED.load(Ordering::Relaxed), before + 2, "{name}");
        }
    }
}

static KEY_ROUNDS: AtomicUsize = AtomicUsize::new(0);
static KEY: AtomicUsize = AtomicUsize::new(0);
static KEY_CALL: AtomicUsize = AtomicUsize::new(0);

/// Sets its key again: POSIX promises four rounds of destructors.
extern "C" fn in_key_destructor(value: *mut libc::c_void) {
    CALLS[KEY_CALL.load(Ordering::Relaxed)].1();
    if KEY_ROUNDS.fetch_add(1, Ordering::Relaxed) + 1 < 4 {
        // SAFETY: the key exists.
        unsafe { libc::pthread_setspecific(KEY.load(Ordering::Relaxed) as _, value) };
    }
}

#[test]
fn in_every_round_of_key_destructors() {
    let _alone = ALONE.lock().unwrap();
    let mut key = 0;
    // SAFETY: the destructor is a function of this program.
    assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(in_key_destructor)) }, 0);
    KEY.store(key as usize, Ordering::Relaxed);
    for (index, (name, _)) in CALLS.iter().enumerate() {
        prepare();
        KEY_CALL.store(index, Ordering::Relaxed);
        KEY_ROUNDS.store(0, Ordering::Relaxed);
        thread::spawn(move || {
            // SAFETY: the key exists; the value is only a mark.
            assert_eq!(unsafe { libc::pthread_setspecific(key, 1 as *const _) }, 0);
        })
        .join()
        .unwrap_or_else(|_| panic!("{name}"));
        assert_eq!(KEY_ROUNDS.load(Ordering::Relaxed), 4, "{name}");
    }
}

static SIGNAL_CALL: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_signal(_: libc::c_int) {
    CALLS[SIGNAL_CALL.load(Ordering::Relaxed)].1();
}

#[test]
fn in_a_signal_handler_that_interrupts_no_allocation() {
    let _alone = ALONE.lock().unwrap();
    let handler = on_signal as extern "C" fn(libc::c_int);
    // SAFETY: the handler is a function of this program.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    for (index, (name, _)) in CALLS.iter().enumerate() {
        prepare();
        SIGNAL_CALL.store(index, Ordering::Relaxed);
        // SAFETY: raises the signal in the new thread itself.
        thread::spawn(|| unsafe { libc::raise(libc::SIGUSR1) })
            .join()
            .unwrap_or_else(|_| panic!("{name}"));
    }
}

/// In a child process after fork, where the parent's thread never called the allocator; the child
/// then leaves by exit, whose handlers call it again.
#[test]
fn in_a_child_and_its_exit_handlers() {
    let _alone = ALONE.lock().unwrap();
    extern "C" fn at_exit() {
        CALLS[SIGNAL_CALL.load(Ordering::Relaxed)].1();
    }
    for (index, (name, call)) in CALLS.into_iter().enumerate() {
        prepare();
        SIGNAL_CALL.store(index, Ordering::Relaxed);
        let status = thread::spawn(move || {
            // SAFETY: the child calls the allocator, which promises to work there, and exits.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    libc::alarm(60);
                    call();
                    libc::atexit(at_exit);
                    libc::exit(0);
                }
                let mut status = -1;
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
                status
            }
        })
        .join()
        .unwrap();
        assert_eq!(status, 0, "{name}");
    }
}
