"""The slow paths of one traced lock: waiting, refusals, and the constant parts of its records.

Only slow paths come here: where a thread waits or is refused, some microseconds more do not matter.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, NamedTuple

from semtrace.instrument.session import OFF, Entry, Session, View
from semtrace.model import SemId
from semtrace.wire.event import EventType, event_prefix
from semtrace.wire.offsets import LockWord, lock_at
from semtrace.wire.words import NOTHING, Flag, Kind

_MASK = 0xFFFFFFFFFFFFFFFF

Book = Callable[[int, int], None]  # of an acquire: who, and how long it waited in ns


def _nothing(reset: bool) -> None:
    """Before a hot path is there."""


class Hooks(NamedTuple):
    """The methods that a traced lock calls instead of its SemLock's."""

    acquire: Callable[..., bool]
    enter: Callable[[], bool]
    release: Callable[[], None]
    tracer: Tracer


class Prefixes(NamedTuple):
    """The constant parts of a lock's two frequent records, in this process."""

    acquired: bytes
    released: bytes


class Tracer:
    """A traced lock's slot in the state file, which begins at the word `at`, and its slow paths."""

    def __init__(self, session: Session, semlock: Any, lock: SemId, kind: Kind, flags: Flag) -> None:
        self.session = session
        self.semlock = semlock
        self.lock, self.kind, self.flags = lock, kind, flags
        self.slot = self.at = 0
        self.name = ""
        self.view: View = session.view()
        self._stale: Callable[[bool], None] = _nothing
        self._waiting: dict[int, int] = {}  # by thread: since when

    def register(self, name: str, made_at: int, stale: Callable[[bool], None]) -> bool:
        """Take a slot; False if none is free: the lock then stays as it was."""
        self.name, self._stale = name, stale
        entry = Entry(self.lock, self.kind, self.flags, name, made_at, weakref.WeakMethod(self.stale))
        slot = self.session.enter(entry)
        if slot is None:
            return False
        self.slot, self.at = slot, lock_at(slot)
        self._emit(EventType.CREATED, self.session.local.base | made_at, monotonic_ns(), NOTHING)
        return True

    def rename(self, name: str, flags: Flag) -> None:
        self.name, self.flags = name, flags
        self.session.rename(self.slot, name, flags)

    def refresh(self) -> tuple[View, Prefixes]:
        """A new view, and the records' constant parts: after a fork they name another process."""
        self.view = self.session.view()
        return self.view, Prefixes(self._prefix(EventType.ACQUIRED), self._prefix(EventType.RELEASED))

    def stale(self, reset: bool) -> None:
        """The view is old; with `reset` the process is another one, and the parent's threads wait in the parent.

        The hot path's own `stale` must not refer to this object: a cycle would keep dropped locks open.
        """
        if reset:
            self._waiting = {}
            self.view = OFF
        self._stale(reset)

    def asker(self) -> int:
        """The calling thread and the application's line, as one word."""
        return self.session.local.base | self.session.sites.locate(sys._getframe(1))

    # --- an acquire that is not simply granted

    def attempt(self, block: object, timeout: float | None, book: Book, renew: Callable[[], None]) -> bool:
        """An acquire with arguments. As C does it: try once, with the timeout checked, then wait."""
        asker = self._asked(renew)
        if type(block) is int and block in (0, 1):
            block = bool(block)
        if type(block) is not bool:  # C decides what it thinks of it
            return self._settle(block, timeout, asker, book)
        if self._settle(False, timeout, asker, book, final=not block):
            return True
        return self.wait(timeout, asker, book) if block else False

    def wait(self, timeout: float | None, asker: int, book: Book) -> bool:
        """It was not free."""
        began = self._wait_begins(asker)
        try:
            return self._settle(True, timeout, asker, book, began=began)
        finally:
            self._wait_ends(asker)

    def _settle(
        self, block: object, timeout: float | None, asker: int, book: Book, began: int = 0, final: bool = True
    ) -> bool:
        """Take it or not, and write down which. `final` is False if a refusal is not the end of it."""
        got = False
        try:
            got = bool(self.semlock.acquire(block, timeout))
            duration = max(1, monotonic_ns() - began) if began else 0
            if got:
                book(asker, duration)
            elif final:
                self._failed(asker, duration)
        except BaseException as error:
            self._broken_off(error, got, asker, began)
            raise
        return got

    def _broken_off(self, error: BaseException, got: bool, asker: int, began: int) -> None:
        """A signal handler's exception or a wrong argument: the caller has to find the lock not acquired."""
        if got:
            self.semlock.release()
            self.doubt()
            return
        if self.semlock._is_mine():  # perhaps taken in the very moment before: as with a bare lock, nobody knows
            self.doubt()
        if began:
            self._failed(asker, monotonic_ns() - began)

    def recover(self, error: BaseException, got: bool) -> bool:
        """An exception out of a hot path's book-keeping, before or after the semaphore was taken."""
        try:
            self.session.guard(error)
        except BaseException:
            if got:
                self.semlock.release()
            self.doubt()
            raise
        return got or bool(self.semlock.acquire())

    def recover_release(self, error: BaseException) -> None:
        """The same before a release, which then takes place all the same."""
        try:
            self.session.guard(error)
        except BaseException:
            self.semlock.release()
            self.doubt()
            raise

    def interrupted(self, error: BaseException) -> None:
        """The same after a release."""
        self.doubt()
        self.session.guard(error)

    # --- books; an error in them is ours alone

    def _asked(self, renew: Callable[[], None]) -> int:
        try:
            renew()
            asker = self.asker()
            self.view.words[self.at + LockWord.TRYING] = asker >> 32 << 32
        except BaseException as error:  # noqa: BLE001  # guard raises what is not ours
            self.session.guard(error)
            return 0
        return asker

    def _wait_begins(self, asker: int) -> int:
        began = monotonic_ns()
        try:
            self._waiting[asker >> 32] = began
            self._show_waiting(asker, began)
            self._emit(EventType.WAIT, asker, began, NOTHING)
        except BaseException as error:  # noqa: BLE001
            self._waiting.pop(asker >> 32, None)
            self.session.guard(error)
        return began

    def _wait_ends(self, asker: int) -> None:
        try:
            self._waiting.pop(asker >> 32, None)
            self._show_waiting(0, max(list(self._waiting.values()), default=0))
        except BaseException as error:  # noqa: BLE001
            self.session.guard(error)

    def _show_waiting(self, who: int, since: int) -> None:
        words, at = self.view.words, self.at
        words[at + LockWord.WAITING] = len(self._waiting)
        words[at + LockWord.WAITING_SINCE] = since
        words[at + LockWord.WAITING_WHO] = who

    def waited(self, duration: int) -> None:
        """Record that a waiter got the lock. The new holder calls this."""
        words, at = self.view.words, self.at
        words[at + LockWord.CONTENDED] += 1
        words[at + LockWord.WAIT_TOTAL] += duration
        if duration > words[at + LockWord.WAIT_MAX]:
            words[at + LockWord.WAIT_MAX] = duration

    def _failed(self, asker: int, duration: int) -> None:
        try:
            words, at = self.view.words, self.at
            words[at + LockWord.FAILED] += 1
            if words[at + LockWord.TRYING] == asker >> 32 << 32:
                words[at + LockWord.TRYING] = 0
            self._emit(EventType.FAILED, asker, monotonic_ns(), duration)
        except BaseException as error:  # noqa: BLE001
            self.session.guard(error)

    def released_for_another(self) -> None:
        """A mutex was released here that another process had acquired."""
        at_count = self.at + LockWord.COUNT
        self.view.words[at_count] = (self.view.words[at_count] - 1) & _MASK

    def doubt(self) -> None:
        self.view.words[self.at + LockWord.DOUBTFUL] += 1

    def _emit(self, type_: EventType, who: int, time_ns: int, value: int) -> None:
        if self.view.emit is not None:
            self.view.emit(self._prefix(type_), who, time_ns, value)

    def _prefix(self, type_: EventType) -> bytes:
        return event_prefix(type_, self.session.process, self.lock, self.kind, self.flags, self.slot)
