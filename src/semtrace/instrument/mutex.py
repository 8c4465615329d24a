"""The hot path of Lock and RLock: closures in which everything is a local name, for they run at every acquire.

The holder of the semaphore writes the books, so the semaphore itself serializes them. At an acquire they are written
after it was taken, at a release before it is given back. What comes after that does no harm if it comes late.

An exception within the book-keeping may be ours: tracing goes off, and the operation goes on. Or it is a signal
handler's and goes to the application. An acquire releases the semaphore first then, for the caller will not know that
it has it.
"""

from __future__ import annotations

import sys
from time import monotonic_ns
from types import CodeType

from semtrace.instrument.session import GENERATION
from semtrace.instrument.state_writer import Scratch
from semtrace.instrument.tracer import Hooks, Tracer
from semtrace.instrument.viewers import Emit
from semtrace.wire.offsets import LockWord
from semtrace.wire.words import NOTHING


def trace_mutex(tracer: Tracer, name: str, made_at: int, depth: int = 2) -> Hooks | None:  # noqa: C901
    """Hooks for a Lock; None if no slot is free. `depth` is how many frames above `enter` the application is."""
    take, give, local = tracer.semlock.acquire, tracer.semlock.release, tracer.session.local
    clock, frame_at, at_generation = monotonic_ns, sys._getframe, GENERATION
    sites = tracer.session.sites

    # The present hold and the counters; written by the holder only.
    since = who = acquired = hold_total = hold_max = 0
    # The last call site, and the instruction that it was found for.
    site, site_at = 0, -1
    site_code: CodeType | None = None
    # What `refresh` got; `seen` is None when it must ask again.
    words, control = Scratch.words, Scratch.control
    emit: Emit | None = None
    seen: int | None = None
    acquired_prefix = released_prefix = b""

    def stale(reset: bool) -> None:
        nonlocal seen, words, control, emit, since, acquired, hold_total, hold_max
        seen = None
        if reset:  # a forked child: the parent's file is not to be touched, and nothing was acquired yet
            words, control, emit = Scratch.words, Scratch.control, None
            since = acquired = hold_total = hold_max = 0

    if not tracer.register(name, made_at, stale):
        return None
    at = tracer.at
    at_who, at_since, at_trying = int(at + LockWord.WHO), int(at + LockWord.SINCE), int(at + LockWord.TRYING)
    at_acquired, at_total, at_max = at + LockWord.ACQUIRED, at + LockWord.HOLD_TOTAL, at + LockWord.HOLD_MAX

    def refresh() -> None:
        nonlocal words, control, seen, emit, acquired_prefix, released_prefix
        view, (acquired_prefix, released_prefix) = tracer.refresh()
        words, control, emit, seen = view.words, view.control, view.emit, view.generation
        if since:  # acquired while another thread made the file
            words[at_who] = who
            words[at_since] = since

    def find_site() -> int:
        """Remembered if the application itself is the caller, not a Condition or the like between."""
        nonlocal site, site_code, site_at
        frame = frame_at(depth + 1)
        found = sites.locate(frame)
        if not sites.is_passing(frame.f_code):
            site, site_code, site_at = found, frame.f_code, frame.f_lasti
        return found

    def renew() -> None:
        if control[at_generation] != seen:
            refresh()

    def enter() -> bool:
        nonlocal since, who, acquired
        got = False
        try:
            if control[at_generation] != seen:
                refresh()
            words[at_trying] = base = local.base
            got = take(False)
            if got:
                frame = frame_at(depth)
                if frame.f_lasti == site_at and frame.f_code is site_code:
                    words[at_who] = who = base | site
                else:
                    words[at_who] = who = base | find_site()
                words[at_since] = since = clock()
                words[at_acquired] = acquired = acquired + 1
                if emit is not None:
                    emit(acquired_prefix, who, since, 0)
                return True
            asker = tracer.asker()
        except BaseException as error:  # noqa: BLE001  # `undo` raises what is not ours
            return undo(error, got)
        return tracer.wait(None, asker, book)

    def undo(error: BaseException, got: bool) -> bool:
        nonlocal since
        if got and since:
            words[at_since] = since = 0
        return tracer.recover(error, got)

    def book(asker: int, waited: int) -> None:
        """An acquire on a slow path."""
        nonlocal since, who, acquired
        try:
            renew()  # a viewer may have come during the wait
            words[at_who] = who = asker
            words[at_since] = since = clock()
            words[at_acquired] = acquired = acquired + 1
            if waited:
                tracer.waited(waited)
            if emit is not None:
                emit(acquired_prefix, who, since, waited)
        except BaseException as error:  # noqa: BLE001
            tracer.session.guard(error)

    def acquire(block: bool = True, timeout: float | None = None) -> bool:
        return enter() if block is True and timeout is None else tracer.attempt(block, timeout, book, renew)

    def release() -> None:
        nonlocal since, hold_total, hold_max
        now, held, holder = 0, NOTHING, who
        try:
            if control[at_generation] != seen:
                refresh()
            now = clock()
            if since:
                held = now - since
                words[at_since] = since = 0
                words[at_total] = hold_total = hold_total + held
                if held > hold_max:
                    words[at_max] = hold_max = held
        except BaseException as error:  # noqa: BLE001
            tracer.recover_release(error)
        give()
        try:
            words[at_trying] = 0
            if held == NOTHING:
                tracer.released_for_another()
            if emit is not None:
                emit(released_prefix, local.base | holder & 0xFFFFFFFF, now, held)
        except BaseException as error:  # noqa: BLE001
            tracer.interrupted(error)

    return Hooks(acquire, enter, release, tracer)


def trace_recursive(tracer: Tracer, name: str, made_at: int) -> Hooks | None:  # noqa: C901
    """Hooks for an RLock: its outermost acquire and release are a mutex's, the inner ones change COUNT alone."""
    outer = trace_mutex(tracer, name, made_at, depth=3)
    if outer is None:
        return None
    semlock = tracer.semlock
    outer_enter, outer_acquire, outer_release = outer.enter, outer.acquire, outer.release
    take, give, is_mine, count = semlock.acquire, semlock.release, semlock._is_mine, semlock._count
    at_count = int(tracer.at + LockWord.COUNT)

    def enter() -> bool:
        return inner(True, None) if is_mine() else outer_enter()

    def acquire(block: bool = True, timeout: float | None = None) -> bool:
        if is_mine():
            return inner(block, timeout)
        return enter() if block is True and timeout is None else outer_acquire(block, timeout)

    def inner(block: bool, timeout: float | None) -> bool:
        got: bool = take(block, timeout)
        try:
            show_depth()
        except BaseException:
            give()
            raise
        return got

    def release() -> None:
        if is_mine() and count() == 1:
            outer_release()
        else:
            give()
            show_depth()

    def show_depth() -> None:
        try:
            tracer.view.words[at_count] = max(0, count() - 1)
        except BaseException as error:  # noqa: BLE001
            tracer.session.guard(error)

    return Hooks(acquire, enter, release, tracer)
