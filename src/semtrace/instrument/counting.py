"""The path of Semaphore and BoundedSemaphore, which several threads of a process may have acquired at once.

A release does not say which acquire it ends: the releasing thread's latest, else the oldest, is assumed. The books
are serialized by nothing but the GIL: each step is one operation on a list or a word.
"""

from __future__ import annotations

from time import monotonic_ns

from semtrace.instrument.session import GENERATION
from semtrace.instrument.sites import site_finder
from semtrace.instrument.state_writer import Scratch
from semtrace.instrument.tracer import Hooks, Tracer
from semtrace.instrument.viewers import Emit
from semtrace.wire.offsets import LockWord
from semtrace.wire.words import NOTHING, Flag

_MASK = 0xFFFFFFFFFFFFFFFF
_MOST_HOLDS = 1000  # one who only acquires, and leaves the releasing to another process, must not fill the memory


def trace_counting(tracer: Tracer, name: str, made_at: int) -> Hooks | None:  # noqa: C901
    """Hooks for a semaphore; None if no slot is free. One that is a signal has no holds."""
    semlock, session, local = tracer.semlock, tracer.session, tracer.session.local
    take, give, count, clock = semlock.acquire, semlock.release, semlock._count, monotonic_ns
    holds: list[tuple[int, int]] = []  # since, who
    acquired = released = hold_total = hold_max = 0
    words, control = Scratch.words, Scratch.control
    emit: Emit | None = None
    seen: int | None = None
    acquired_prefix = released_prefix = b""

    def stale(reset: bool) -> None:
        nonlocal seen, words, control, emit, acquired, released, hold_total, hold_max
        seen = None
        if reset:
            words, control, emit = Scratch.words, Scratch.control, None
            acquired = released = hold_total = hold_max = 0
            holds.clear()

    if not tracer.register(name, made_at, stale):
        return None
    at = tracer.at
    at_trying, at_who, at_since = int(at + LockWord.TRYING), int(at + LockWord.WHO), int(at + LockWord.SINCE)
    at_count, at_acquired, at_released = at + LockWord.COUNT, at + LockWord.ACQUIRED, at + LockWord.RELEASED
    at_hold_total, at_hold_max = at + LockWord.HOLD_TOTAL, at + LockWord.HOLD_MAX
    is_signal, at_generation = bool(tracer.flags & Flag.SIGNAL), GENERATION
    find_site = site_finder(session.sites, 3)

    def refresh() -> None:
        nonlocal words, control, seen, emit, acquired_prefix, released_prefix, is_signal
        is_signal = bool(tracer.flags & Flag.SIGNAL)
        view, (acquired_prefix, released_prefix) = tracer.refresh()
        words, control, emit, seen = view.words, view.control, view.emit, view.generation
        show()

    def show() -> None:
        words[at_count] = count() & _MASK
        since, who = holds[-1] if holds else (0, 0)
        if who:
            words[at_who] = who
        words[at_since] = since

    def renew() -> None:
        if control[at_generation] != seen:
            refresh()

    def enter() -> bool:
        got = False
        try:
            if control[at_generation] != seen:
                refresh()
            words[at_trying] = base = local.base
            asker = base | find_site()
            got = take(False)
            if got:
                book(asker, 0)
                return True
        except BaseException as error:  # noqa: BLE001  # `recover` raises what is not ours
            return tracer.recover(error, got)
        return tracer.wait(None, asker, book)

    def book(asker: int, waited: int) -> None:
        nonlocal acquired
        try:
            if control[at_generation] != seen:  # a viewer may have come during the wait
                refresh()
            now = clock()
            words[at_who] = asker
            if not is_signal:
                holds.append((now, asker))
                words[at_since] = now
                if len(holds) > _MOST_HOLDS:
                    del holds[0]
            acquired += 1
            words[at_acquired] = acquired
            words[at_count] = count() & _MASK
            if waited:
                tracer.waited(waited)
            if emit is not None:
                emit(acquired_prefix, asker, now, waited)
        except BaseException as error:  # noqa: BLE001
            session.guard(error)

    def acquire(block: bool = True, timeout: float | None = None) -> bool:
        return enter() if block is True and timeout is None else tracer.attempt(block, timeout, book, renew)

    def end_hold() -> tuple[int, int]:
        """Return the start and the thread of the hold; (0, 0) if nobody here had acquired it."""
        mine = local.base
        for index in range(len(holds) - 1, -1, -1):
            if holds[index][1] >> 32 << 32 == mine:
                return holds.pop(index)
        return holds.pop(0)

    def release() -> None:
        now = since = who = 0
        try:
            if control[at_generation] != seen:
                refresh()
            now = clock()
            if holds:
                since, who = end_hold()
                words[at_since] = holds[-1][0] if holds else 0
        except BaseException as error:  # noqa: BLE001
            tracer.recover_release(error)
        give()
        try:
            book_release(now, since, who)
        except BaseException as error:  # noqa: BLE001
            tracer.interrupted(error)

    def book_release(now: int, since: int, who: int) -> None:
        nonlocal released, hold_total, hold_max
        words[at_released] = released = released + 1
        words[at_trying] = 0
        words[at_count] = count() & _MASK
        held = NOTHING
        if since:
            held = now - since
            words[at_hold_total] = hold_total = hold_total + held
            if held > hold_max:
                words[at_hold_max] = hold_max = held
        if emit is not None:
            emit(released_prefix, local.base | who & 0xFFFFFFFF, now, held)

    return Hooks(acquire, enter, release, tracer)
