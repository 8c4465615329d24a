"""Memory says who, the events say since when and where: and what either may say alone."""

from __future__ import annotations

from dataclasses import replace

from support import tracewriter
from support.tracewriter import LOCK, SITE, P, Q, S, book, files, record, state_file

from semtrace.model import DeadHolder, Holder, LastHolder, Lock, LockState, Waiter
from semtrace.tracing.state import State, fold
from semtrace.tracing.traced import refine, tracing
from semtrace.wire.event import EventType

NOW = 100 * S


def lock(state: LockState = "held", **changes: object) -> Lock:
    plain = Lock(LOCK, "Lock", state, 0, 1, mapped_by=(P, Q))
    return replace(plain, **changes)  # type: ignore[arg-type]


def told(*records: object, state: State | None = None) -> State:
    return fold(
        state or fold(State(), files(S, state_file(P, book()), state_file(Q, book()))), tracewriter.events(*records)
    )  # type: ignore[arg-type]


def test_a_holder_and_a_waiter_get_their_times_and_lines() -> None:
    state = told(record(EventType.ACQUIRED, NOW - 3 * S, 1, 0), record(EventType.WAIT, NOW - S, 1, process=Q))
    seen = lock(holders=(Holder(P, 5, 1, 0.2),), waiters=(Waiter(Q, Q.pid, 0.1),))
    (refined,) = refine([seen], state, NOW, ())
    (holder,), (waiter,) = refined.holders, refined.waiters
    assert (holder.since_s, holder.evidence, holder.site, holder.tid) == (3.0, "events", "/app/a.py:7", P.pid)
    assert (waiter.for_s, waiter.evidence, waiter.site) == (1.0, "events", "/app/a.py:7")


def test_hold_that_ended_during_the_memory_read_has_its_time() -> None:
    state = told(record(EventType.ACQUIRED, NOW - 3 * S, 1, 0), record(EventType.RELEASED, NOW + 1, 2, 3 * S + 1))
    (refined,) = refine([lock(holders=(Holder(P, 5, 1, 0.2),))], state, NOW, ())
    assert (refined.holders[0].since_s, refined.holders[0].evidence) == (3.0, "events")


def test_memory_wins_over_events_about_who_holds() -> None:
    state = told(record(EventType.ACQUIRED, NOW - 3 * S, 1, 0))
    (refined,) = refine([lock(holders=(Holder(Q, 5, 1, 0.2),))], state, NOW, ())
    assert refined.holders == (Holder(Q, 5, 1, 0.2),)
    (refined,) = refine([lock("free")], state, NOW, ())
    assert (refined.state, refined.holders) == ("free", ())


def test_events_are_believed_for_a_process_that_cannot_be_read() -> None:
    state = told(record(EventType.ACQUIRED, NOW - 3 * S, 1, 0), record(EventType.WAIT, NOW - S, 1, process=Q))
    unread = lock("unknown", value=None, reason="its value could not be read", kind="unknown")
    (refined,) = refine([unread], state, NOW, (P, Q))
    assert refined.state == "contended"
    assert [(h.process, h.since_s, h.evidence) for h in refined.holders] == [(P, 3.0, "events")]
    assert [(w.process, w.for_s, w.evidence) for w in refined.waiters] == [(Q, 1.0, "events")]
    assert refined.kind == "Lock"


def test_last_of_two_claimants_of_a_mutex_is_its_holder() -> None:
    state = told(record(EventType.ACQUIRED, NOW - 3 * S, 1, 0), record(EventType.ACQUIRED, NOW - S, 1, 0, process=Q))
    (refined,) = refine([lock("unknown", value=None)], state, NOW, (P, Q))
    assert [h.process for h in refined.holders] == [Q]


def test_unreadable_lock_is_free_only_if_all_mappers_report_so() -> None:
    unread = lock("unknown", value=None, reason="its value could not be read")
    (refined,) = refine([unread], told(), NOW, (P, Q))
    assert refined.state == "free"
    half = fold(State(), files(S, state_file(P, book())))
    (refined,) = refine([unread], half, NOW, (P, Q))
    assert (refined.state, refined.reason) == ("unknown", unread.reason)
    trying = fold(State(), files(S, state_file(P, book()), state_file(Q, book(trying=7))))
    (refined,) = refine([unread], trying, NOW, (P, Q))
    assert refined.state == "unknown"


def test_hidden_mapper_or_taken_value_prevents_calling_a_lock_free() -> None:
    unread = lock("unknown", value=None, reason="its value could not be read", mapped_by=(P,))
    half = fold(State(), files(S, state_file(P, book())))
    assert refine([unread], half, NOW, (P, Q))[0].state == "free"
    assert refine([unread], half, NOW, (P, Q), hidden=(Q,))[0].state == "unknown"
    assert refine([unread], told(), NOW, (P, Q), hidden=(Q,))[0].state == "free", "it says itself that it has not"
    assert refine([replace(unread, value=0)], told(), NOW, (P, Q))[0].state == "unknown"


def test_an_orphan_says_which_dead_process_held_it_and_where() -> None:
    dead = state_file(Q, book(since_ns=NOW - 41 * S, site=SITE, tid=Q.pid))
    state = fold(State(), files(S, state_file(P, book()), dead, dead=(Q,)))
    (refined,) = refine([lock("orphaned", reason="locked")], state, NOW, ())
    assert refined.reason == "locked; PID 102 died holding it, acquired 41.0 s ago at /app/a.py:7"
    assert refined.dead_holder == DeadHolder(Q, 41.0)
    (suspect,) = refine([lock("unknown", reason="watching", if_ended="not proved")], state, NOW, ())
    assert suspect.if_ended == "not proved; PID 102 died holding it, acquired 41.0 s ago at /app/a.py:7"
    (refined,) = refine([lock("orphaned", reason="locked")], state, NOW, (), {Q: (9.1, 9.0), P: None})
    assert refined.dead_holder == DeadHolder(Q, 41.0, 9.1, 9.0)
    sampled = LastHolder(P, P.pid, 50.0, 1.0, 0.5)
    (refined,) = refine([lock("orphaned", reason="locked", last_holder=sampled)], state, NOW, ())
    assert (refined.dead_holder, refined.last_holder) == (DeadHolder(Q, 41.0), None), "the file knows better"
    assert refined.holders == ()
    (refined,) = refine([lock("unknown", value=None)], state, NOW, (P, Q))
    assert (refined.state, refined.holders) == ("unknown", ()), "the dead hold nothing, and it is not free"


def test_after_a_loss_times_are_inexact_until_files_are_read() -> None:
    state = told(record(EventType.ACQUIRED, NOW - 3 * S, 1, 0), record(EventType.WAIT, NOW - S, 9, tid=77))
    seen = lock(holders=(Holder(P, 5, 1, 0.2),))
    (refined,) = refine([seen], state, NOW, ())
    assert refined.holders[0].evidence == "memory"
    state = fold(state, files(NOW, state_file(P, book(since_ns=NOW - 2 * S, tid=P.pid))))
    state = fold(state, tracewriter.events(*(record(EventType.WAIT, NOW, n, tid=77) for n in range(10, 100))))
    state = fold(state, files(NOW + S, state_file(P, book(since_ns=NOW - 2 * S, tid=P.pid))))
    (refined,) = refine([seen], state, NOW, ())
    assert (refined.holders[0].evidence, refined.holders[0].since_s) == ("events", 2.0)


def test_lock_that_a_living_process_reports_holding_is_not_orphaned() -> None:
    state = fold(State(), files(S, state_file(P, book(since_ns=7))))
    (refined,) = refine([lock("orphaned", reason="locked")], state, NOW, ())
    assert refined.state == "unknown"
    assert refined.reason == "locked; but PID 101, which traces it, says it holds it"


def test_a_lock_that_nobody_traces_is_as_it_was() -> None:
    seen = lock(id=tracewriter.OTHER)
    assert refine([seen], told(), NOW, ()) == (seen,)


def test_counts_come_from_files_and_quantiles_from_events() -> None:
    state = fold(
        State(), files(S, state_file(P, book(acquired=10, contended=4, released=9, wait_total_ns=8, hold_total_ns=18)))
    )
    state = told(record(EventType.ACQUIRED, 2 * S, 1, 2), record(EventType.RELEASED, 3 * S, 2, S), state=state)
    (refined,) = refine([lock()], state, NOW, ())
    counted = refined.statistics
    assert counted is not None
    assert (counted.acquired, counted.contended, counted.contention) == (10, 4, 0.4)
    assert (counted.wait.mean_s, counted.hold.mean_s) == (2e-9, 2e-9)
    assert counted.sites[0][0] == "/app/a.py:7"
    assert counted.sites[0][1].acquired == 1


def test_a_name_of_its_own_serves_where_memory_knows_none() -> None:
    state = fold(State(), files(S, state_file(P, book(name="orders"))))
    assert refine([lock()], state, NOW, ())[0].name == "orders"
    assert refine([lock(name="app.lock", names=("app.lock",))], state, NOW, ())[0].name == "app.lock"
    event = fold(state, tracewriter.events(record(EventType.WAIT, 2 * S, 1)))
    assert [e.name for e in tracing(event, NOW, True, {}).recent] == ["orders"]
    assert [e.name for e in tracing(event, NOW, True, {LOCK: "app.lock"}).recent] == ["app.lock"]
