/* states.pml: the state of a slot is a plain byte, see slot_state.h. A model for spin of why a free
 * of a live slot never finds it free, on processors that delay stores and change their order.
 * spin.py checks it, and that it rejects each of the broken variants:
 *
 *   -DMARK_LATE      a slot is marked free after others may take it
 *   -DPLAIN_COUNT    the store that adds a slot to a batch does not release
 *   -DNO_BARRIER     who takes from another thread's stack does not wait for its stores
 *   -DNO_MARK        malloc does not mark the slot
 *
 * One slot. The owner allocates it from its slab and passes it on; a freer frees it onto its stack
 * or into a batch; a purger takes it from there for the slab. Then the same again. */
#define TURNS 3

mtype = { FREE, LIVE };

mtype state = FREE;  /* as memory has it */
bool on_stack, in_batch; /* of the freer, as memory has it */
bool in_slab = true;     /* under the owner's mutex */
bool mail;               /* the program's own release and acquire */

/* Stores of the freer that memory does not have yet; they arrive in any order. */
bool late_state, late_stack, late_batch;

inline arrive_state() { late_state = false; state = FREE }

proctype Arrivals()
{
end:
    do
    :: atomic { late_state -> arrive_state() }
    :: atomic { late_stack -> late_stack = false; on_stack = true }
#ifdef PLAIN_COUNT
    :: atomic { late_batch -> late_batch = false; in_batch = true }
#else
    :: atomic { late_batch && !late_state -> late_batch = false; in_batch = true }
#endif
    od
}

proctype Owner()
{
    byte turn = 0;
    do
    :: turn < TURNS ->
        atomic { in_slab -> in_slab = false }
#ifndef NO_MARK
        state = LIVE; /* the mail releases it */
#endif
        mail = true;
        turn++
    :: turn == TURNS -> break
    od
}

proctype Freer()
{
    byte turn = 0;
    bool taken;
    do
    :: turn < TURNS ->
        atomic { mail -> mail = false }
        assert(state == LIVE && !late_state); /* else a false report */
#ifndef MARK_LATE
        late_state = true;
#endif
        if
        :: late_stack = true
        :: late_batch = true
        fi;
#ifdef MARK_LATE
        late_state = true;
#endif
        turn++
    :: turn == TURNS -> break
    od
}

/* The barrier waits for the stores that the freer has made so far. It comes after the look at what
 * lies on the stack; what is pushed later is not taken. */
proctype Purger()
{
end:
    do
    :: on_stack ->
#ifndef NO_BARRIER
        atomic {
            if
            :: late_state -> arrive_state()
            :: else
            fi
        }
#endif
        on_stack = false;
        in_slab = true
    :: in_batch -> in_batch = false; in_slab = true
    od
}

init
{
    atomic { run Arrivals(); run Owner(); run Freer(); run Purger() }
}
