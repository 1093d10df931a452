/* ownership.pml: how slots freed elsewhere reach their slab, while slabs change owners and owner
 * ids change threads. A model of delivery.c and supply.c for spin; spin.py checks it, and that it
 * rejects each of the broken variants:
 *
 *   -DTRUST_FIRST_LOOK   a giver does not read the entry again under the mutex
 *   -DADOPT_UNLOCKED     an adopter does not take the old owner's mutex
 *   -DONE_MUTEX          an adopter lists a slab after its entry has named the new owner
 *
 * One slab with two slots, two owners, three threads. Every thread attaches to an owner, some
 * times allocates or frees, and exits; slots stay behind for others to free. */
#define OWNERS 2
#define THREADS 3
#define SLOTS 2
#define STEPS 2
#define NONE 9 /* the entry of a block that the arena has */

mtype = { UNUSED, LIVE, HELD }; /* HELD: freed by a thread, on its way to the slab */

byte mutex[OWNERS];   /* 0 free, else thread + 1 */
byte registry;
bool attached[OWNERS];
byte entry = NONE;
byte lists = NONE;    /* the owner whose list has the slab */
byte inside;          /* threads that change the slab's record and bitmap */
mtype slot[SLOTS] = UNUSED;

inline lock(word, me) { atomic { word == 0 -> word = me + 1 } }
inline unlock(word) { word = 0 }

/* The record and the bitmap are changed in more than one step. */
inline enter() { assert(inside == 0); inside++ }
inline leave() { inside-- }

/* va_deliver_own_locked for one slot; the caller holds the mutex of `owner`, to whom the slab belongs. */
inline give(owner, s)
{
    enter();
    assert(slot[s] == HELD);
    slot[s] = UNUSED;
    gone = false;
    if
    :: lists == NONE -> lists = owner
    :: else
    fi;
    if
    :: slot[0] == UNUSED && slot[1] == UNUSED -> lists = NONE; gone = true
    :: slot[0] == UNUSED && slot[1] == UNUSED && attached[owner] /* the only one of its class */
    :: slot[0] != UNUSED || slot[1] != UNUSED
    fi;
    leave()
}

/* va_deliver, and the delivery of a batch of one. */
inline deliver(s)
{
    target = entry;
    do
    :: assert(target != NONE);
        lock(mutex[target], me);
#ifdef TRUST_FIRST_LOOK
        give(target, s);
        unlock(mutex[target]);
        break
#else
        if
        :: entry == target ->
            give(target, s);
            unlock(mutex[target]);
            if
            :: gone -> entry = NONE /* va_arena_reclaim, after the mutex */
            :: else
            fi;
            break
        :: else ->
            unlock(mutex[target]);
            target = entry /* forwarded */
        fi
#endif
    od
}

/* A slab for `own`: adopted from an exited owner, else a fresh one. */
inline obtain(own)
{
    got = false;
    lock(registry, me);
    other = 1 - own;
    if
    :: !attached[other] ->
#ifndef ADOPT_UNLOCKED
        lock(mutex[other], me);
#endif
        if
        :: lists == other ->
#ifdef ONE_MUTEX
            enter();
            lists = NONE;
            leave();
            entry = own; /* from here on others may give to it */
            got = true
#else
            lock(mutex[own], me);
            enter();
            entry = own;
            lists = own;
            leave();
            unlock(mutex[own]);
            got = true
#endif
        :: else
        fi;
#ifndef ADOPT_UNLOCKED
        unlock(mutex[other])
#endif
    :: else
    fi;
    unlock(registry);
    if
    :: !got ->
        lock(mutex[own], me);
        atomic {
            if
            :: entry == NONE && inside == 0 -> entry = own; lists = own
            :: else
            fi
        };
        unlock(mutex[own])
    :: else
    fi
}

inline allocate(own)
{
    lock(mutex[own], me);
    had = (lists == own);
    unlock(mutex[own]);
    got = false;
    if
    :: !had -> obtain(own)
    :: else
    fi;
    lock(mutex[own], me);
#ifdef ONE_MUTEX
    if
    :: got -> lists = own
    :: else
    fi;
#endif
    if
    :: lists == own ->
        enter();
        assert(entry == own);
        if
        :: slot[0] == UNUSED -> slot[0] = LIVE
        :: slot[0] != UNUSED && slot[1] == UNUSED -> slot[1] = LIVE
        :: else
        fi;
        if
        :: slot[0] != UNUSED && slot[1] != UNUSED -> lists = NONE
        :: else
        fi;
        leave()
    :: else
    fi;
    unlock(mutex[own])
}

/* Frees whatever live slot there is: the program has handed it over. */
inline free_one()
{
    s = SLOTS;
    atomic {
        if
        :: slot[0] == LIVE -> slot[0] = HELD; s = 0
        :: slot[1] == LIVE -> slot[1] = HELD; s = 1
        :: else
        fi
    }
    if
    :: s < SLOTS -> deliver(s)
    :: else
    fi
}

byte done;

proctype thread(byte me)
{
    byte own; byte other; byte target; byte s; byte steps;
    bool got; bool had; bool gone;
    /* va_cache_attach: an owner whose thread has exited. */
    atomic {
        registry == 0;
        if
        :: !attached[0] -> own = 0
        :: !attached[1] -> own = 1
        fi;
        attached[own] = true
    }
    do
    :: steps < STEPS -> allocate(own); steps++
    :: steps < STEPS -> free_one(); steps++
    :: steps > 0 -> break
    od;
    /* va_cache_retire */
    lock(mutex[own], me);
    if
    :: lists == own && slot[0] == UNUSED && slot[1] == UNUSED -> lists = NONE; gone = true
    :: else -> gone = false
    fi;
    unlock(mutex[own]);
    if
    :: gone -> entry = NONE
    :: else
    fi;
    lock(registry, me);
    lock(mutex[own], me);
    attached[own] = false;
    unlock(mutex[own]);
    unlock(registry);
    done++
}

init {
    byte me = THREADS; byte target; byte s; bool gone;
    atomic { run thread(0); run thread(1); run thread(2) }
    done == THREADS;
    free_one();
    free_one();
    /* Nothing is lost: every slot is free, and the slab is on its owner's list or given up. */
    assert(slot[0] == UNUSED && slot[1] == UNUSED);
    assert(entry == NONE || lists == entry)
}
