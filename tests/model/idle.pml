/* idle.pml: how one thread takes slots from the stack that another uses by fast paths without any
 * lock. A model of idle.c for spin; spin.py checks it, and that it rejects each broken variant:
 *
 *   -DNO_FIRST_BARRIER     the taker fences before the owner is known to be on a slow path or not
 *   -DNO_SECOND_BARRIER    it takes before the owner is known to see the fence
 *   -DFENCE_NEWEST         the fence stands in the place of the newest slot
 *   -DIGNORE_BUSY          it does not ask whether the owner is on a slow path
 *   -DNO_LOOK              it does not look whether the owner came by the fence before
 *   -DDROP_EARLY           a slot that the owner is about to put on top counts as gone from its place
 *   -DRUNS -DNO_SECOND_BARRIER
 *   -DRUNS -DIGNORE_POPPING   it does not ask whether the owner pops a run
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
bool started, suspended;
byte fence, fenced; /* its place, and the slot in whose place it stands or 0 */

#if defined(RUNS) || defined(FENCE_NEWEST)
#define KEEP 0
#else
#define KEEP 1
#endif

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

/* Begins a slow path; takes the fence away. */
inline enter()
{
    store(BUSY, 1);
    if
    :: suspended ->
        lock(1);
        if
        :: suspended ->
            load(TOP, top);
            if
            :: fenced != 0 && fence <= top ->
                load(ENTRY + fence, s);
                if
                :: s == 0 -> store(ENTRY + fence, fenced)
                :: else
                fi
            :: else
            fi;
            kept = 0;
            n = 1;
            do
            :: fence != 0 && n <= top ->
                load(ENTRY + n, s);
                if
                :: s != 0 -> kept++; store(ENTRY + kept, s)
                :: else
                fi;
                n++
            :: else -> break
            od;
            if
            :: fence != 0 -> store(TOP, kept)
            :: else
            fi;
            atomic { waiting == 0 -> fence = 0; fenced = 0; suspended = false }
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
#ifdef RUNS
    store(POPPING, 1);
#endif
    load(TOP, top);
    load(ENTRY + top, s);
    if
    :: s != 0 -> store(TOP, top - 1); hand_out(s)
    :: else
    fi;
#ifdef RUNS
    store(POPPING, 0);
#endif
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
    load(TOP, top);
    if
    :: store(ENTRY + top + 1, number); store(TOP, top + 1)
    :: true -> /* the stack is full */
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
    fi
}

active proctype owner()
{
    memory[TOP] = 3; memory[ENTRY + 1] = 1; memory[ENTRY + 2] = 2; memory[ENTRY + 3] = 3;
    started = true;
    byte operation, top, s, i, n, kept;
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

inline take(number)
{
    atomic { assert(slot[number] == STACKED); slot[number] = AT_HOME }
}

inline set_fence()
{
    held = memory[TOP];
    if
    :: fenced != 0 ->
        if
#ifdef DROP_EARLY
        :: held >= fence && memory[ENTRY + fence] == 0
#else
        :: held + 1 >= fence && memory[ENTRY + fence] == 0
#endif
        :: else -> fenced = 0; fence = 0
        fi
    :: else
    fi;
    if
    :: fenced == 0 && held > KEEP + fence ->
        atomic {
            if
            :: memory[ENTRY + held - KEEP] != 0 ->
                fence = held - KEEP;
                fenced = memory[ENTRY + fence];
                memory[ENTRY + fence] = 0
            :: else
            fi
        }
    :: else
    fi
}

inline take_fenced()
{
    if
#ifdef IGNORE_POPPING
    :: fenced != 0
#else
    :: fenced != 0 && memory[POPPING] == 0
#endif
       ->
        if
#ifdef NO_LOOK
        :: true
#else
        :: memory[TOP] >= fence + KEEP && memory[ENTRY + fence] == 0
#endif
           -> take(fenced); fenced = 0
#ifndef NO_LOOK
        :: else
#endif
        fi
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
        unlock();
#ifndef NO_FIRST_BARRIER
        waiting == 0;
#endif
        lock_taker();
        if
#ifdef IGNORE_BUSY
        :: suspended -> set_fence()
#else
        :: suspended && memory[BUSY] == 0 -> set_fence()
#endif
        :: else
        fi;
        unlock();
#ifndef NO_SECOND_BARRIER
        waiting == 0;
#endif
        lock_taker();
        if
#ifdef IGNORE_BUSY
        :: suspended ->
#else
        :: suspended && memory[BUSY] == 0 ->
#endif
            take_fenced();
            entry = 1;
            do
            :: fenced == 0 && entry < fence ->
                if
                :: memory[ENTRY + entry] != 0 ->
                    take(memory[ENTRY + entry]);
                    memory[ENTRY + entry] = 0
                :: else
                fi;
                entry++
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
            :: memory[ENTRY + at] == 0 && at == fence && fenced == number -> seen++
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
