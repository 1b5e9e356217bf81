/*
 * The write status between the engine's thread and others: a model of what engine/stream.c, engine/send_queue.c and
 * engine/mailbox.c do with a stream that other threads send on and abort, for spin to try every order of steps.
 *
 * Each step here is one atomic access there, or several that only one thread can see. The order of the threads' steps is
 * sequentially consistent, as the mailbox asks for; that acquire and release are enough for the write status itself is
 * not shown here (the thread sanitizer looks at that).
 *
 * What holds:
 *   - a flush that begins after an abort's store submits nothing, so at most one submission comes after the store:
 *     one that had loaded the status before;
 *   - every post is run and released exactly once, or refused;
 *   - every accepted byte is submitted and completed, or counted by on_close, and not both; a graceful end loses none;
 *   - on_close is told exactly once;
 *   - whoever sleeps for ever has nothing to do: no wake is lost;
 *   - nobody uses the ring once it is gone, and the stream's memory is freed once, by its last holder.
 *
 * Each BREAK_ macro makes one mistake, and spin must find it: tests/model/run.
 */

/* Small numbers are enough to meet every order of two; tests/model/run tries several. */
#ifndef POSTERS
#define POSTERS 2
#endif
#ifndef ABORTERS
#define ABORTERS 1
#endif
#ifndef SENDS
#define SENDS 1 /* by the engine's own thread; each send is one byte */
#endif
#define ABORT_POST POSTERS /* the post that carries the abort; those before it carry a byte each */
#define POSTS      (POSTERS + 1)
#define MAIL_MAX   (POSTS + 1) /* more than can be right */

#define WRITABLE 0
#define CLOSING  1
#define CLOSED   2

/* -- What threads share -------------------------------------------------------------------------------------- */

byte status = WRITABLE;
byte posted;            /* bytes posted and not arrived… */
bool are_posts_closed;  /* …and the highest bit of the same word: always read and written together */
bool has_abort_error;
byte holders = 1 + POSTERS + ABORTERS;

byte mail[MAIL_MAX];
byte mail_count;
bool is_mailbox_closed;
bool needs_wake;
byte wakers;
bool is_woken; /* a completion for RING_WAKE waits */

/* -- What is known by nobody but the model ------------------------------------------------------------------- */

bool is_ring_there = true;
bool is_freed;
bool is_over;
bool has_abort_stored;
bool is_failed; /* somebody aborted */
byte accepted;
byte delivered;
byte unsent;
byte closes;
byte submitted_after_abort;
byte refused_late; /* bytes reserved, and refused because the mailbox was closed */
byte ran[POSTS];
byte taken[POSTS];
byte threads_done;

/* -- The mailbox --------------------------------------------------------------------------------------------- */

inline mailbox_wake()
{
    wakers++;
    if
    :: is_mailbox_closed ->
        wakers--
    :: else ->
        d_step {
            was_needed = needs_wake;
            needs_wake = false
        };
        d_step {
            if
            :: was_needed ->
                assert(is_ring_there);
                is_woken = true
            :: else
            fi;
            was_needed = false;
            wakers--
        }
    fi
}

inline mailbox_post(number, size)
{
#ifdef BREAK_WAKE_BEFORE_POST
    mailbox_wake();
#endif
#ifdef BREAK_PUSH_IN_TWO_STEPS
    was_count = mail_count;
#endif
    d_step {
        if
        :: is_mailbox_closed ->
            was_taken = false
        :: else ->
            was_taken = true;
#ifdef BREAK_PUSH_IN_TWO_STEPS
            mail_count = was_count;
#endif
            mail[mail_count] = number;
            mail_count++;
            taken[number]++;
            accepted = accepted + size
        fi
    };
#ifndef BREAK_WAKE_BEFORE_POST
    if
    :: was_taken ->
        mailbox_wake()
    :: else
    fi
#endif
}

inline release()
{
    d_step {
        assert(holders > 0);
        holders--;
        if
        :: holders == 0 ->
            assert(!is_freed);
            is_freed = true
        :: else
        fi
    }
}

/* -- Other threads ------------------------------------------------------------------------------------------- */

/* sluice_stream_post_send() */
proctype Poster(byte number)
{
    bool was_needed;
    bool was_taken;
    byte was_count;

    if
    :: status != WRITABLE ->
        goto done
    :: else
    fi;
    d_step {
        was_taken = !are_posts_closed;
        if
        :: was_taken ->
            posted++;
            holders++
        :: else
        fi
    };
    if
    :: !was_taken ->
        goto done
    :: else
    fi;
    mailbox_post(number, 1);
    if
    :: was_taken
    :: else ->
        posted--;
        refused_late++;
        release()
    fi;
done:
    atomic {
        release();
        threads_done++
    }
}

/* sluice_stream_abort(), from another thread */
proctype Aborter()
{
    bool was_needed;
    bool was_taken;
    byte was_count;

#ifdef BREAK_ABORT_IN_TWO_STEPS
    was_taken = !has_abort_error;
    has_abort_error = true;
#else
    d_step {
        was_taken = !has_abort_error;
        has_abort_error = true
    };
#endif
    if
    :: was_taken ->
#ifndef BREAK_ABORT_STORES_NOTHING
        d_step {
            status = CLOSED;
            holders++;
            is_failed = true;
            has_abort_stored = true
        };
#else
        d_step {
            holders++;
            is_failed = true;
            has_abort_stored = true
        };
#endif
        mailbox_post(ABORT_POST, 0);
        if
        :: was_taken
        :: else ->
            release()
        fi
    :: else
    fi;
    atomic {
        release();
        threads_done++
    }
}

/* -- The stream, on the engine's thread ---------------------------------------------------------------------- */

inline schedule_flush()
{
#ifdef BREAK_STATUS_ASKED_WHEN_SCHEDULED
    if
    :: is_flush_scheduled
    :: else ->
        loaded = status
    fi;
#endif
    is_flush_scheduled = true
}

inline stream_closed()
{
    d_step {
#ifndef BREAK_ENDS_AGAIN
        assert(!is_closed);
#endif
        status = CLOSED;
        lost = lost + queued;
        queued = 0;
        is_closed = true
    }
}

inline stream_fail()
{
    if
#ifdef BREAK_ENDS_AGAIN
    :: false
#else
    :: is_aborted || is_closed
#endif
    :: else ->
        status = CLOSED;
        is_aborted = true;
        is_failed = true;
#ifdef BREAK_ENDS_AGAIN
        has_told_close = false;
#endif
        if
        :: in_flight == 0 ->
            stream_closed()
        :: else
        fi
    fi
}

/* run_posted_send() and run_abort_post() */
inline run_post(number)
{
    d_step {
        assert(!is_freed);
        ran[number]++;
        assert(ran[number] == 1);
        if
        :: number != ABORT_POST ->
            was_counted = are_posts_closed;
            assert(posted > 0);
            posted--
        :: else
        fi
    };
    atomic {
        if
        :: number == ABORT_POST ->
            stream_fail()
        :: else ->
            if
            :: status != CLOSED ->
                queued++
            :: status == CLOSED && !was_counted ->
                lost++
            :: else
            fi;
            was_counted = false;
            if
            :: !is_closed ->
                schedule_flush()
            :: else
            fi
        fi;
        release();
        at++
    }
}

/* The queue is empty: end_our_direction(). The peer ends at once, too. */
inline end_our_direction()
{
    if
    :: status == CLOSING ->
#ifdef BREAK_POSTS_NOT_REFUSED
        was_counted = true;
#else
        d_step {
            was_counted = are_posts_closed || posted == 0;
            are_posts_closed = was_counted
        };
#endif
        if
        :: was_counted ->
            atomic {
                if
                :: status == CLOSING ->
                    status = CLOSED;
                    is_finished = true;
                    stream_closed()
                :: else
                fi
            }
        :: else
        fi
    :: else
    fi
}

/* send_queue_run() */
inline flush()
{
    atomic {
        is_flush_scheduled = false;
        was_stored = has_abort_stored
    };
    if
    :: is_closed || is_aborted || is_finished || in_flight > 0
    :: else ->
        if
        :: queued == 0 ->
            end_our_direction()
        :: else ->
#if !defined(BREAK_NO_GUARD) && !defined(BREAK_STATUS_ASKED_WHEN_SCHEDULED)
            loaded = status;
#endif
            if
            :: loaded == CLOSED
            :: else ->
                d_step {
                    in_flight = queued;
                    if
                    :: has_abort_stored ->
                        submitted_after_abort++
                    :: else
                    fi;
                    assert(submitted_after_abort <= 1);
                    assert(!was_stored)
                }
            fi
        fi
    fi
}

inline tell_close()
{
    atomic {
        if
        :: is_closed && !has_told_close ->
            has_told_close = true;
            unsent = lost;
#ifndef BREAK_CLOSE_COUNTS_NO_POSTS
            unsent = unsent + posted;
#endif
            are_posts_closed = true;
            closes++;
            assert(closes == 1)
        :: else
        fi;
        if
        :: has_told_close && !is_flush_scheduled && !has_let_go ->
            has_let_go = true;
            release()
        :: else
        fi
    }
}

/* The kernel took some of it, or all. */
inline complete()
{
    atomic {
        was_sent = in_flight;
        in_flight = 0;
        if
        :: was_sent > 1 ->
            was_sent = 1
        :: true
        fi;
        queued = queued - was_sent;
        delivered = delivered + was_sent;
        was_sent = 0;
        if
        :: is_aborted ->
            stream_closed()
        :: else ->
            schedule_flush()
        fi
    }
}

/* -- The engine ---------------------------------------------------------------------------------------------- */

/* Whatever its user calls before a turn. */
inline user_calls()
{
    atomic {
        if
        :: true
        :: sent < SENDS && status == WRITABLE ->
            sent++;
            queued++;
            accepted++;
            schedule_flush()
        :: !has_closed ->
            has_closed = true;
            sent = SENDS;
            if
            :: status == WRITABLE ->
                status = CLOSING
            :: else
            fi;
            schedule_flush()
        :: !is_destroying && threads_done > 0 ->
            is_destroying = true;
            stream_fail()
        fi
    }
}

inline run_batch()
{
    at = 0;
    do
    :: at < batch_count ->
        run_post(batch[at])
    :: else ->
        break
    od;
    atomic {
        at = 0;
        do
        :: at < batch_count ->
            batch[at] = 0;
            at++
        :: else ->
            break
        od;
        batch_count = 0;
        at = 0
    }
}

inline take_mail()
{
    d_step {
        batch_count = 0;
        do
        :: batch_count < mail_count ->
            batch[batch_count] = mail[batch_count];
            mail[batch_count] = 0;
            batch_count++
        :: else ->
            break
        od;
#ifndef BREAK_TAKE_IN_TWO_STEPS
        mail_count = 0
#endif
    }
#ifdef BREAK_TAKE_IN_TWO_STEPS
    ;
    mail_count = 0
#endif
}

/* It would sleep for ever: then there is nothing to do. Its user, who sees that, ends it. */
inline rest()
{
    assert(mail_count == 0);
    assert(!is_flush_scheduled);
    assert(in_flight == 0);
    assert(status != CLOSING);
    assert(!has_abort_error || has_told_close);
    assert(threads_done == POSTERS + ABORTERS);
    is_destroying = true;
    stream_fail()
}

inline sleep_unless_there_is_something_to_do()
{
#ifdef BREAK_LOOKS_BEFORE_IT_SLEEPS
    was_counted = mail_count > 0;
    needs_wake = true;
#else
    needs_wake = true;
    was_counted = mail_count > 0;
#endif
    if
    :: was_counted || is_flush_scheduled || (is_closed && !has_let_go)
    :: is_destroying && has_let_go
    :: else ->
        if
        :: is_woken
        :: in_flight > 0 /* …and completes */
        :: timeout ->
            rest()
        fi
    fi;
    was_counted = false;
    is_woken = false
}

active proctype Engine()
{
    byte queued;
    byte in_flight;
    byte lost;
    bool has_closed; /* its user called close */
    bool is_aborted;
    bool is_finished;
    bool is_closed;
    bool has_told_close;
    bool has_let_go;
    bool is_flush_scheduled;
    bool is_destroying;
    /* On the stack. */
    byte batch[MAIL_MAX];
    byte batch_count;
    byte at;
    byte sent;
    byte loaded;
    byte was_sent;
    bool was_counted;
    bool was_stored;

    atomic {
        at = 0;
        do
        :: at < POSTERS ->
            run Poster(at);
            at++
        :: else ->
            break
        od;
        at = 0;
        do
        :: at < ABORTERS ->
            run Aborter();
            at++
        :: else ->
            break
        od;
        at = 0
    };
    do
    :: is_destroying && has_let_go ->
        break
    :: else ->
        user_calls();
        needs_wake = false;
        take_mail();
        run_batch();
        if
        :: is_flush_scheduled ->
            flush()
        :: else
        fi;
        tell_close();
        sleep_unless_there_is_something_to_do();
        if
        :: in_flight > 0 ->
            complete()
        :: true
        fi
    od;
    /* mailbox_close() */
    needs_wake = false;
    d_step {
        is_mailbox_closed = true;
        batch_count = 0;
        do
        :: batch_count < mail_count ->
            batch[batch_count] = mail[batch_count];
            batch_count++
        :: else ->
            break
        od;
        mail_count = 0
    };
#ifndef BREAK_CLOSES_WITHOUT_WAITING
    wakers == 0;
#endif
    run_batch();
    is_ring_there = false;
    is_over = true;
    threads_done == POSTERS + ABORTERS;
    assert(closes == 1);
    assert(posted == 0);
    assert(holders == 0);
    assert(is_freed);
    assert(ran[0] == taken[0] && ran[1] == taken[1] && ran[ABORT_POST] == taken[ABORT_POST]);
    assert(taken[ABORT_POST] <= 1);
    /* A byte that is refused at the very last may have been counted by on_close before. */
    assert(delivered + unsent >= accepted);
    assert(delivered + unsent <= accepted + refused_late);
    assert(is_failed || unsent == 0)
}
