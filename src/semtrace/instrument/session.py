"""The tracing of this process: opened at the first lock, again after a fork, closed at exit.

A hot path compares one word with the one that it saw last, and asks `view` when they differ. They do when a viewer
came, the process forked, or tracing went off. All else happens here, rarely. There are no locks in here: a fork or a
signal could come while one is held. What must be done once is claimed by a `list.pop`, which is atomic.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import weakref
from _thread import _local, get_native_id
from collections.abc import Callable
from time import monotonic_ns
from typing import NamedTuple

from semtrace.errors import SemtraceError
from semtrace.instrument import places, totals
from semtrace.instrument.sites import Sites
from semtrace.instrument.state_writer import Books, Scratch, Words, open_control
from semtrace.instrument.viewers import Emit, Viewers
from semtrace.model import ProcessId, SemId
from semtrace.wire.event import EventType, event_prefix
from semtrace.wire.offsets import LOCK_SLOTS, Header, Status
from semtrace.wire.place import SERVER_VARIABLE, ControlWord, parse_fifo_name, parse_process_name, process_name
from semtrace.wire.words import NOTHING, Flag, Kind

_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_LIBRARY = {str(os.__file__), str(contextlib.__file__), str(enum.__file__), "<frozen os>"}  # Python code that we call
GENERATION = int(ControlWord.GENERATION)


class View(NamedTuple):
    """The view that a hot path works with until the generation changes."""

    words: Words
    control: Words
    generation: int
    emit: Emit | None


class Entry(NamedTuple):
    """A traced lock as its slot describes it, and `stale`, which makes its hot path ask for a new view.

    That reference is weak: a slot must not keep a lock alive.
    """

    lock: SemId
    kind: Kind
    flags: Flag
    name: str
    made_at: int
    stale: weakref.WeakMethod[Callable[[bool], None]]


class PerThread(_local):
    """`base` is the kernel's thread id in the upper half of a word: asking the kernel each time would be a call."""

    def __init__(self) -> None:
        self.base = get_native_id() << 32


OFF = View(Scratch.words, Scratch.control, 0, None)


class Session:
    """One per process; a forked child goes on with the parent's object, and makes its own file when it needs one."""

    def __init__(self, restore_locks: Callable[[], None]) -> None:
        self.on = True
        self.books: Books | None = None
        self.process = ProcessId(0, 0)
        self.root = _find_root()
        self.local = PerThread()
        self.entries: dict[int, Entry] = {}
        self.sites = Sites(self._publish_site)
        self.viewers = Viewers(self._invalidate)
        self._restore_locks = restore_locks
        self._control: Words = Scratch.control
        self._generation = 0
        self._emit: Emit | None = None
        self._free = list(reversed(range(LOCK_SLOTS)))
        self._untraced = 0
        self._to_open, self._to_look = [True], [True]
        self._uid = -1
        self._finished = False

    # --- for the hot paths

    def view(self) -> View:
        """The present view. Opens the state file if this process has none yet; looks for viewers."""
        if not self.on:
            return OFF
        if self.books is None and not self._once(self._to_open, self._open):
            return OFF._replace(generation=1)  # another thread is at it: ask again at the next event
        assert self.books is not None
        if self._control[GENERATION] != self._generation:
            self._once(self._to_look, self._look)
        return View(self.books.words, self._control, self._generation, self._emit)

    def guard(self, error: BaseException) -> None:
        """An exception in the book-keeping: ours switches tracing off, a signal handler's is raised again."""
        if _is_foreign(error):
            raise error
        self.fail(error)

    # --- locks

    def enter(self, entry: Entry) -> int | None:
        """A slot for a lock, None if all are taken."""
        try:
            slot = self._free.pop()
        except IndexError:
            self._untraced += 1
            if self.books is not None:
                self.books.words[Header.UNTRACED] = self._untraced
            return None
        self.entries[slot] = entry
        if self.books is not None:
            self.books.open_slot(slot, *entry[:5])
        return slot

    def rename(self, slot: int, name: str, flags: Flag) -> None:
        entry = self.entries[slot] = self.entries[slot]._replace(name=name, flags=flags)
        if self.books is not None:
            self.books.open_slot(slot, *entry[:5])
        self._stale(False)

    def leave(self, slot: int) -> None:
        """The lock object is gone. When tracing is off its slot stays as it is: it may be evidence."""
        if not self.on or self.entries.pop(slot, None) is None:
            return
        if self.books is not None:
            self.books.close_slot(slot)
        self._free.append(slot)

    # --- this process

    def _once(self, claim: list[bool], function: Callable[[], None]) -> bool:
        """Call it, unless another thread, or the code that a signal interrupted, is at it."""
        try:
            claim.pop()
        except IndexError:
            return False
        try:
            function()
        finally:
            claim.append(True)
        return True

    def _open(self) -> None:
        """Join the server's directory with a file of our own."""
        self.process = places.this_process()
        with places.joining(self.root) as directory:
            books = Books(directory, self.process)
            self._control = open_control(directory, places.pid_namespace())
        self._uid = os.geteuid()
        for index, encoded in enumerate(self.sites.encoded):
            books.add_site(index, encoded)
        for slot, entry in list(self.entries.items()):
            books.open_slot(slot, *entry[:5])
        books.words[Header.UNTRACED] = self._untraced
        for target in self.viewers.targets:  # inherited
            books.set_viewer(target.index, parse_fifo_name(target.name) or ProcessId(0, 0))
        self._generation = 0
        self._emit = self.viewers.emitter(books.words)
        self.books = self.viewers.books = books  # last: other threads use it from now on
        self._stale(False)
        with contextlib.suppress(OSError, SemtraceError):
            if self.root == self.process:
                places.sweep(self.root)
            else:
                with places.server_directory(self.root) as directory:
                    totals.count_killed(directory)

    def _look(self) -> None:
        """The generation is read before the directory: a viewer that comes in between changes it once more."""
        generation = self._control[GENERATION]
        if os.geteuid() != self._uid:  # gunicorn --user: the directory is another user's now
            self._open()
            return
        try:
            with places.server_directory(self.root) as directory:
                self.viewers.scan(directory)
        except OSError:  # somebody removed it, or the application has no descriptor left: nobody new can watch
            self.viewers.revalidate()
        self._generation = generation
        self._invalidate()

    def _invalidate(self) -> None:
        if self.books is not None:
            self._emit = self.viewers.emitter(self.books.words)
        self._stale(False)

    def _stale(self, reset: bool) -> None:
        for entry in list(self.entries.values()):
            stale = entry.stale()
            if stale is not None:
                stale(reset)

    def _publish_site(self, index: int, encoded: bytes) -> None:
        if self.books is not None:
            self.books.add_site(index, encoded)

    def forked(self) -> None:
        """Start again in the child: it does not touch the parent's file, and makes its own at its first event."""
        parent = self.process.pid
        self.local.base = get_native_id() << 32
        self.books = self.viewers.books = None
        self._finished = False
        self._control = Scratch.control
        self._generation = 0
        self._untraced = 0
        self._to_open, self._to_look = [True], [True]
        self.viewers.numbers = type(self.viewers.numbers)(1)
        self._emit = None
        self._stale(True)
        if self.on and self.viewers.targets:
            self.viewers.revalidate()
            self.process = places.this_process()
            self._emit = self.viewers.emitter(Scratch.words)
            self.tell(EventType.FORKED, parent)

    def tell(self, type_: EventType, value: int = NOTHING) -> None:
        """An event of the process itself."""
        if self._emit is not None:
            prefix = event_prefix(type_, self.process, None, Kind.UNKNOWN, Flag.NONE, 0)
            self._emit(prefix, self.local.base, monotonic_ns(), value)

    def finish(self, keep_evidence: bool = True) -> None:
        """End the tracing of a process that ends normally: remove its file, unless it holds a lock."""
        books, root = self.books, self.root
        if self._finished or (books is None and root.pid != os.getpid()):
            return
        self._finished = True
        with contextlib.suppress(OSError, SemtraceError):  # nobody is left to report an error to
            self.tell(EventType.EXITING)
            self.off()
            with places.server_directory(root) as directory:
                if books is not None and not (keep_evidence and books.holds_something()):
                    if root != self.process:  # with the root the whole directory goes
                        with contextlib.suppress(OSError):
                            totals.count_own(directory, self.process)
                    books.remove(directory)
            places.remove_if_last(root)

    def off(self) -> None:
        """Stop tracing: every hot path writes into a scratch area from now on."""
        self.on = False
        self._emit = None
        if self.books is not None:
            self.books.words[Header.STATUS] = Status.OFF
        self._stale(False)
        self._restore_locks()

    def fail(self, error: BaseException) -> None:
        """An error of our own: tracing goes off in this process, once, with one line."""
        if not self.on:
            return
        self.off()
        with contextlib.suppress(Exception):
            logging.getLogger("semtrace").warning(
                "tracing is off in process %d: %s: %s", os.getpid(), type(error).__name__, error
            )


def _find_root() -> ProcessId:
    """The server that this process belongs to, as a child that was exec'ed or spawned; else it is one itself."""
    root = parse_process_name(os.environ.get(SERVER_VARIABLE, ""))
    if root is None or not places.is_alive(root):
        root = places.this_process()
        os.environ[SERVER_VARIABLE] = process_name(root)
    return root


def _is_foreign(error: BaseException) -> bool:
    """Return True if a signal handler raised it that happened to run within our code: then it has a foreign frame."""
    if not isinstance(error, Exception):
        return True
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(_OURS) and file not in _LIBRARY:
            return True
        trace = trace.tb_next
    return False
