/* idle.pml: how one thread takes slots from the stack that another uses by fast paths without any
 * lock. A model of idle.c for spin; spin.py checks it, and that it rejects each broken variant:
 *
 *   -DNO_BARRIER           the taker does not wait until the stores of the owner can be seen
 *   -DTAKE_NEWEST          it takes the newest slot as well
 *   -DIGNORE_BUSY          it does not ask whether the owner is on a slow path
 *   -DFORGET_PLACE         the owner keeps its front while its cache is suspended
 *   -DRUNS -DNO_BARRIER
 *   -DRUNS -DNO_SECOND_LOOK   the owner does not look whether it still has its front
 *
 * With -DRUNS the slots are runs, whose owner says when it pops one: the newest is taken, too.
 *
 * The owner's stores wait in order in a buffer, as those of a processor do, until they reach the
 * memory that the taker sees. A barrier, or taking a lock, empties it. At first all slots are on the
 * stack; at the end each is where it is said to be. */
#define SLOTS 3
#define CELLS (SLOTS + 5)
#define TOP 0
#define BUSY 1
#define POPPING 2
#define ENTRY 3 /* of no slot; those of slots follow */
#define BUFFER 4
#define OPERATIONS 5
#define ROUNDS 2

mtype = { LIVE, STACKED, AT_HOME };

mtype slot[SLOTS + 1] = STACKED; /* 1 to SLOTS */
byte memory[CELLS];
byte waiting_at[BUFFER], waiting_for[BUFFER], waiting;
byte mutex, ended;
bool started, suspended, robbed, has_front = true;

/* The oldest store that waits reaches the memory. */
inline drain_one()
{
    memory[waiting_at[0]] = waiting_for[0];
    waiting--;
    waiting_at[0] = waiting_at[1]; waiting_for[0] = waiting_for[1];
    waiting_at[1] = waiting_at[2]; waiting_for[1] = waiting_for[2];
    waiting_at[2] = waiting_at[3]; waiting_for[2] = waiting_for[3]
}

active proctype processor()
{
end:
    do
    :: atomic { waiting > 0 -> drain_one() }
    od
}

inline store(cell, value)
{
    atomic {
        waiting < BUFFER ->
        waiting_at[waiting] = cell;
        waiting_for[waiting] = value;
        waiting++
    }
}

/* What the owner reads: its own newest store, or the memory. */
inline load(cell, into)
{
    atomic {
        into = memory[cell];
        i = 0;
        do
        :: i < waiting ->
            if
            :: waiting_at[i] == cell -> into = waiting_for[i]
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 0
    }
}

inline lock(me) { atomic { mutex == 0 && waiting == 0 -> mutex = me } }
inline lock_taker() { atomic { mutex == 0 -> mutex = 2 } }
inline unlock() { mutex = 0 }

/* ---- The thread whose stack it is ---- */

/* Begins a slow path; has the front back. */
inline enter()
{
    store(BUSY, 1);
    if
    :: suspended ->
        lock(1);
        if
        :: suspended ->
            load(TOP, top);
            kept = 0;
            n = 1;
            do
            :: robbed && n <= top ->
                load(ENTRY + n, s);
                if
                :: s != 0 -> kept++; store(ENTRY + kept, s)
                :: else
                fi;
                n++
            :: else -> break
            od;
            if
            :: robbed -> store(TOP, kept)
            :: else
            fi;
            atomic { waiting == 0 -> robbed = false; suspended = false; has_front = true }
        :: else
        fi;
        atomic { waiting == 0 -> unlock() }
    :: else
    fi
}

inline leave() { store(BUSY, 0) }

/* A slot that somebody has free becomes the program's. */
inline hand_out(number)
{
    atomic { assert(slot[number] == STACKED); slot[number] = LIVE }
}

inline allocate()
{
    s = 0;
    if
    :: has_front ->
#ifdef RUNS
        store(POPPING, 1);
        if
#ifdef NO_SECOND_LOOK
        :: true ->
#else
        :: has_front ->
#endif
            load(TOP, top);
            load(ENTRY + top, s)
        :: !has_front
        fi;
#else
        load(TOP, top);
        load(ENTRY + top, s);
#endif
        if
        :: s != 0 -> store(TOP, top - 1); hand_out(s)
        :: else
        fi;
        store(POPPING, 0)
    :: else
    fi;
    if
    :: s == 0 ->
        enter();
        load(TOP, top);
        load(ENTRY + top, s);
        if
        :: s != 0 -> store(TOP, top - 1); hand_out(s)
        :: else -> /* refill */
            lock(1);
            atomic {
                if
                :: slot[1] == AT_HOME -> slot[1] = LIVE
                :: slot[2] == AT_HOME -> slot[2] = LIVE
                :: slot[3] == AT_HOME -> slot[3] = LIVE
                :: else
                fi
            };
            unlock()
        fi;
        leave()
    :: else
    fi
}

inline release(number)
{
    slot[number] = STACKED;
    done = false;
    if
    :: has_front ->
        load(TOP, top);
        store(ENTRY + top + 1, number);
        store(TOP, top + 1);
        done = true
    :: else
    fi;
    if
    :: !done ->
        enter();
        load(TOP, top);
        store(ENTRY + top + 1, number);
        store(TOP, top + 1);
        n = top + 1; /* flush: so many, it is known before the lock */
        lock(1);
        do
        :: n > 0 ->
            atomic {
                assert(slot[memory[ENTRY + n]] == STACKED);
                slot[memory[ENTRY + n]] = AT_HOME
            };
            n--
        :: else -> break
        od;
        store(TOP, 0);
        atomic { waiting == 0 -> unlock() };
        leave()
    :: else
    fi
}

active proctype owner()
{
    memory[TOP] = 3; memory[ENTRY + 1] = 1; memory[ENTRY + 2] = 2; memory[ENTRY + 3] = 3;
    started = true;
    byte operation, top, s, i, n, kept;
    bool done;
    do
    :: operation < OPERATIONS ->
        operation++;
        if
        :: allocate()
        :: slot[1] == LIVE -> release(1)
        :: slot[2] == LIVE -> release(2)
        :: slot[3] == LIVE -> release(3)
        fi
    :: else -> break
    od;
    ended++
}

/* ---- The one that takes ---- */

inline take(n)
{
    if
    :: memory[ENTRY + n] != 0 ->
        atomic {
            assert(slot[memory[ENTRY + n]] == STACKED);
            slot[memory[ENTRY + n]] = AT_HOME;
            memory[ENTRY + n] = 0;
            robbed = true
        }
    :: else
    fi
}

active proctype taker()
{
    byte round, held, entry;
    started;
    do
    :: round < ROUNDS ->
        round++;
        lock_taker();
        suspended = true;
#ifndef FORGET_PLACE
        has_front = false;
#endif
        unlock();
#ifndef NO_BARRIER
        waiting == 0;
#endif
        lock_taker();
        if
#ifdef IGNORE_BUSY
        :: suspended ->
#else
        :: suspended && memory[BUSY] == 0 && memory[POPPING] == 0 ->
#endif
            held = memory[TOP];
            entry = 1;
            do
#if defined(TAKE_NEWEST) || defined(RUNS)
            :: entry <= held -> take(entry); entry++
#else
            :: entry < held -> take(entry); entry++
#endif
            :: else -> break
            od
        :: else
        fi;
        unlock()
    :: else -> break
    od;
    ended++
}

/* Once all is done: a slot that is free without being at home is on the stack, once. */
active proctype inspector()
{
    byte at, number, seen;
    ended == 2 && waiting == 0;
    number = 1;
    do
    :: number <= SLOTS ->
        seen = 0;
        at = 1;
        do
        :: at <= memory[TOP] ->
            if
            :: memory[ENTRY + at] == number -> seen++
            :: else
            fi;
            at++
        :: else -> break
        od;
        assert(seen == (slot[number] == STACKED -> 1 : 0));
        number++
    :: else -> break
    od
}
