//! The founding system, rebuilt from its description to measure progress. It takes memory from
//! mmap, and has a table of blocks and bounded thread caches. Both are scanned one by one under a
//! mutex. When the cache is full, it calls munmap.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::RefCell;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard};

pub struct Original;

struct MemoryBlock {
    address: usize,
    size: usize,
    occupied: bool,
}

/// The recently freed blocks of a thread.
const CACHED: usize = 64;
const PAGE: usize = 4096;

static BLOCKS: Mutex<Vec<MemoryBlock>> = Mutex::new(Vec::new());

fn blocks() -> MutexGuard<'static, Vec<MemoryBlock>> {
    BLOCKS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Addresses and sizes. At the thread's exit they become free in the table.
struct ThreadCache(Vec<(usize, usize)>);

impl Drop for ThreadCache {
    fn drop(&mut self) {
        let mut blocks = blocks();
        for (address, _) in &self.0 {
            if let Some(block) = blocks.iter_mut().find(|block| block.address == *address) {
                block.occupied = false;
            }
        }
    }
}

thread_local! {
    static CACHE: RefCell<ThreadCache> = const { RefCell::new(ThreadCache(Vec::new())) };
}

// SAFETY: every block is a mapping of its own or one that was freed; alignments are below a page.
unsafe impl GlobalAlloc for Original {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size().next_multiple_of(PAGE);
        let cached = CACHE.with_borrow_mut(|cache| {
            let place = cache.0.iter().position(|(_, have)| *have >= size)?;
            Some(cache.0.swap_remove(place).0)
        });
        if let Some(address) = cached {
            return address as *mut u8;
        }
        let mut blocks = blocks();
        let free = blocks.iter_mut().find(|block| !block.occupied && block.size >= size);
        if let Some(block) = free {
            block.occupied = true;
            return block.address as *mut u8;
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping.
        let mapped = unsafe { libc::mmap(null_mut(), size, access, flags, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return null_mut();
        }
        blocks.push(MemoryBlock { address: mapped as usize, size, occupied: true });
        mapped.cast()
    }

    unsafe fn dealloc(&self, ptr: *mut u8, _: Layout) {
        let address = ptr as usize;
        let mut blocks = blocks();
        let place = blocks
            .iter()
            .position(|block| block.address == address)
            .expect("every block stands in the table");
        let size = blocks[place].size;
        let kept = CACHE.with_borrow_mut(|cache| {
            let room = cache.0.len() < CACHED;
            if room {
                cache.0.push((address, size));
            }
            room
        });
        if !kept {
            blocks.swap_remove(place);
            // SAFETY: the mapping is the block's, and nobody uses it any more.
            unsafe { libc::munmap(ptr.cast(), size) };
        }
    }
}
