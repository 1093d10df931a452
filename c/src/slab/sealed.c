/* sealed.c: see sealed.h. */
#include "slab/sealed.h"

#include "arena/block_pool.h"
#include "harden/secure.h"
#include "os/os.h"

#if VALLOC_SECURE_QUARANTINE

/* Arena lock. The runs [first, first + count) of the ring, the oldest first. */
static struct {
    Block *runs[VA_SEALED_RUNS];
    size_t first, count;
    _Atomic size_t blocks; /* of all of them; written under the lock */
} ring;

/* All but the last page, which is a guard page mostly: a zone grows by the mapping that its last
 * page belongs to. */
static size_t sealed_run_bytes(const Block *run)
{
    return ((size_t)run->run_blocks << VA_BLOCK_SHIFT) - va_os_page_bytes();
}

static void add_blocks_locked(size_t more)
{
    size_t before = atomic_load_explicit(&ring.blocks, memory_order_relaxed);
    atomic_store_explicit(&ring.blocks, before + more, memory_order_relaxed);
}

/* The oldest run leaves the ring, for a chain of those that may return. It opens under the lock: a
 * child of a fork knows sealed runs by the ring. One that the kernel does not open is lost. */
static void open_oldest_locked(Block **opened)
{
    Block *run = ring.runs[ring.first];
    ring.first = (ring.first + 1) % VA_SEALED_RUNS;
    ring.count--;
    add_blocks_locked((size_t)0 - run->run_blocks);
    if (va_unlikely(!va_os_protect(va_block_address(run), sealed_run_bytes(run), true))) {
        va_entry_store(va_block_entry(run), va_entry_make(0, VA_CLASS_LOST));
        return;
    }
    run->next = *opened;
    *opened = run;
}

static void give_back_opened(Block *opened)
{
    while (opened != NULL) {
        Block *run = opened;
        opened = run->next;
        run->next = NULL;
        va_pool_reclaim(va_guard_whole(run));
    }
}

bool va_sealed_put(Block *run)
{
    Block *opened = NULL;
    if (run->allocator != &va_process || run->run_blocks > VA_SEALED_BLOCKS)
        return false;
    /* Locked memory would stay resident. With `zero` the free has purged the run already. */
    if (VALLOC_SECURE_ZERO ? !run->zero
                           : !va_os_purge(va_block_address(run), sealed_run_bytes(run)))
        return false;
    va_lock_acquire(&va_use.lock);
    while (ring.count == VA_SEALED_RUNS ||
           atomic_load_explicit(&ring.blocks, memory_order_relaxed) + run->run_blocks >
               VA_SEALED_BLOCKS)
        open_oldest_locked(&opened);
    bool done = va_os_protect(va_block_address(run), sealed_run_bytes(run), false);
    if (va_likely(done)) {
        ring.runs[(ring.first + ring.count++) % VA_SEALED_RUNS] = run;
        add_blocks_locked(run->run_blocks);
        va_pool_vacate(run); /* before it may leave */
    }
    va_lock_release(&va_use.lock);
    give_back_opened(opened);
    return done;
}

VA_COLD void va_sealed_end(void)
{
    Block *opened = NULL;
    va_lock_acquire(&va_use.lock);
    while (ring.count != 0)
        open_oldest_locked(&opened);
    va_lock_release(&va_use.lock);
    give_back_opened(opened);
}

VA_COLD const Block *va_sealed_nth(size_t n)
{
    return n < ring.count ? ring.runs[(ring.first + n) % VA_SEALED_RUNS] : NULL;
}

VA_COLD size_t va_sealed_bytes(void)
{
    return atomic_load_explicit(&ring.blocks, memory_order_relaxed) << VA_BLOCK_SHIFT;
}

#endif
