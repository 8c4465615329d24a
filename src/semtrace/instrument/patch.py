"""The hook in multiprocessing: every Lock, RLock and semaphore is a SemLock, and gets its methods in one place.

`Lib/multiprocessing/synchronize.py`: `_make_methods` binds `acquire` and `release` when a SemLock is made and when it
is rebuilt in a child; `with` goes through the class. Condition, Event, Barrier, Queue and Pool are built of these.
A lock that is not traced is not changed in any way.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref
from collections.abc import Callable
from multiprocessing import context, process, synchronize, util
from types import FrameType
from typing import Any, ClassVar

from semtrace.errors import SemtraceError
from semtrace.instrument import places
from semtrace.instrument.counting import trace_counting
from semtrace.instrument.mutex import trace_mutex, trace_recursive
from semtrace.instrument.session import Session
from semtrace.instrument.tracer import Hooks, Tracer
from semtrace.model import RECURSIVE_MUTEX
from semtrace.wire.place import SERVER_VARIABLE
from semtrace.wire.words import Flag, Kind

_CLASS = synchronize.SemLock
_KINDS = (
    (synchronize.RLock, Kind.RLOCK),
    (synchronize.Lock, Kind.LOCK),
    (synchronize.BoundedSemaphore, Kind.BOUNDED_SEMAPHORE),
    (synchronize.Semaphore, Kind.SEMAPHORE),
)
_OURS = os.path.dirname(__file__) + os.sep
_HERITAGE = "semtrace"


class _State:
    """This process's: whether new locks are traced, and what SemLock's attributes were before."""

    session: Session | None = None
    all_locks = False
    originals: ClassVar[dict[str, Any]] = {}
    watches_process = failed = False


_traced: weakref.WeakSet[synchronize.SemLock] = weakref.WeakSet()


def install() -> None:
    """Trace every multiprocessing lock that is made from now on, in this process and its children. Never raises."""
    _State.all_locks = True
    prepare()


def uninstall() -> None:
    """Trace no more, and leave multiprocessing as it was. The locks made meanwhile go on as plain ones."""
    _State.all_locks = False
    process.current_process()._config.pop(_HERITAGE, None)  # type: ignore[attr-defined]
    session, _State.session = _State.session, None
    if session is not None:
        session.finish(keep_evidence=False)
        session.off()
        os.environ.pop(SERVER_VARIABLE, None)
    for name, original in _State.originals.items():
        if original is not None:
            setattr(_CLASS, name, original)
        elif not name.startswith("_semtrace"):  # those may be needed by a `with` that is under way
            delattr(_CLASS, name)
    _State.originals.clear()


def is_installed() -> bool:
    return _State.all_locks


def prepare() -> Session | None:
    """The session, with the class patched and the process's forks and end watched; None if tracing has failed."""
    if not _State.originals:
        _State.originals.update({name: _CLASS.__dict__.get(name) for name in _REPLACED})
        for name, function in _REPLACED.items():
            setattr(_CLASS, name, function)
    if not _State.watches_process:
        _State.watches_process = True
        os.register_at_fork(after_in_child=_forked)
        atexit.register(_finish)
        util.register_after_fork(_State, _finish_as_child)
        _finish_as_child(_State)
    process.current_process()._config.setdefault(_HERITAGE, _Heritage())  # type: ignore[attr-defined]
    if _State.session is None and not _State.failed:
        try:
            _State.session = Session(_restore_locks)
        except (OSError, SemtraceError) as error:
            _State.failed = True
            logging.getLogger("semtrace").warning("locks are not traced: %s", error)
    if _State.session is None:
        return None
    return _State.session if _State.session.on else None


def trace(lock: synchronize.SemLock, name: str | None = None, flags: Flag | None = None) -> None:
    """Trace this lock, or give a traced one its name. Never raises what is ours."""
    session = prepare()
    if session is not None:
        try:
            _trace(session, lock, name or "", flags)
        except BaseException as error:  # noqa: BLE001  # guard raises what is not ours
            session.guard(error)


def _trace(session: Session, lock: Any, name: str, flags: Flag | None) -> None:
    hooks = hooks_of(lock)
    if hooks is not None:
        hooks.tracer.rename(name, hooks.tracer.flags if flags is None else flags)
        return
    identity = places.semaphore_at(lock._semlock.handle)
    if identity is None:
        raise SemtraceError("a semaphore is not mapped from a file", "")
    kind = kind_of(lock)
    if flags is None:
        flags = Flag.SIGNAL if _is_signal(lock, kind) else Flag.NONE
    tracer = Tracer(session, lock._semlock, identity, kind, flags)
    made = _WAYS[kind](tracer, name, session.sites.locate(sys._getframe(1)))
    if made is not None:
        weakref.finalize(tracer, session.leave, tracer.slot).atexit = False
        lock._semtrace = made
        lock._semtrace_enter, lock._semtrace_release = made.enter, made.release
        lock.acquire, lock.release = made.acquire, made.release
        _traced.add(lock)


_WAYS: dict[Kind, Callable[[Tracer, str, int], Hooks | None]] = {
    Kind.LOCK: trace_mutex,
    Kind.RLOCK: trace_recursive,
    Kind.SEMAPHORE: trace_counting,
    Kind.BOUNDED_SEMAPHORE: trace_counting,
    Kind.UNKNOWN: trace_counting,
}


def kind_of(lock: Any) -> Kind:
    known = next((kind for class_, kind in _KINDS if isinstance(lock, class_)), Kind.UNKNOWN)
    return Kind.RLOCK if lock._semlock.kind == RECURSIVE_MUTEX else known


def _is_signal(lock: Any, kind: Kind) -> bool:
    """A semaphore that begins at 0, or that multiprocessing made for a Condition's or a Queue's own use."""
    if kind in (Kind.LOCK, Kind.RLOCK):
        return False
    return lock._semlock._get_value() == 0 or _maker_of(lock).startswith(("multiprocessing.", "concurrent."))


def _maker_of(lock: object) -> str:
    """The module that made it: the first frame outwards that is neither ours, nor the lock's own, nor a context's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        ours = frame.f_code.co_filename.startswith(_OURS) or frame.f_code.co_filename == context.__file__
        if not ours and not _is_own(frame, lock):
            return str(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return ""


def _is_own(frame: FrameType, lock: object) -> bool:
    """Up to Python 3.12 a frame that is asked for its variables keeps them until it ends: no other one is asked."""
    return frame.f_code.co_name in ("__init__", "__setstate__") and frame.f_locals.get("self") is lock


def hooks_of(lock: object) -> Hooks | None:
    return getattr(lock, "_semtrace", None)


def _restore_locks() -> None:
    """Give the locks their own methods back, after tracing went off."""
    for lock in list(_traced):
        for name in ("_semtrace", "_semtrace_enter", "_semtrace_release"):
            lock.__dict__.pop(name, None)
        _State.originals["_make_methods"](lock)
    _traced.clear()


# --- what SemLock's attributes are replaced by; an untraced lock finds the original behind each


def _make_methods(self: Any) -> None:
    _State.originals["_make_methods"](self)
    if _State.all_locks:
        trace(self)


def _enter(self: Any) -> bool:
    return self._semtrace_enter()  # type: ignore[no-any-return]


def _exit(self: Any, *args: object) -> None:
    self._semtrace_release()


def _plain_enter(self: Any) -> bool:
    return self._semlock.__enter__()  # type: ignore[no-any-return]


def _plain_exit(self: Any) -> None:
    self._semlock.__exit__()


def _reduce_ex(self: Any, protocol: Any) -> Any:
    """A traced lock arrives traced in a spawned child, which then need not install by itself."""
    reduced = object.__reduce_ex__(self, protocol)
    hooks = hooks_of(self)
    if hooks is None or not isinstance(reduced, tuple) or len(reduced) < 3:
        return reduced
    return rebuild, (hooks.tracer.name, int(hooks.tracer.flags), _State.all_locks, *reduced[:3])


def rebuild(name: str, flags: int, all_locks: bool, make: Callable[..., Any], arguments: Any, state: Any) -> Any:
    """Rebuild the lock that `_reduce_ex` pickled."""
    if all_locks:
        install()
    lock = make(*arguments)
    lock.__setstate__(state)
    trace(lock, name, Flag(flags))
    return lock


class _Heritage:
    """Tell a child that multiprocessing starts as a program of its own that its parent traces its locks.

    Lib/multiprocessing/process.py: each Process gets a copy of its maker's `_config`, and is pickled with it. A child
    of a fork server (the default from 3.14 on) has the fork server's environment and memory, not its parent's.
    """

    def __reduce__(self) -> tuple[Callable[[str, bool], _Heritage], tuple[str, bool]]:
        return inherit, (os.environ.get(SERVER_VARIABLE, ""), _State.all_locks)


def inherit(server: str, all_locks: bool) -> _Heritage:
    """Do in the child what `_Heritage` was pickled for: join the parent's server, and trace if the parent does."""
    if _State.session is None and server:
        os.environ[SERVER_VARIABLE] = server
    if all_locks:
        install()
    return _Heritage()


_REPLACED: dict[str, Any] = {
    "_make_methods": _make_methods,
    "__enter__": _enter,
    "__exit__": _exit,
    "__reduce_ex__": _reduce_ex,
    "_semtrace_enter": _plain_enter,
    "_semtrace_release": _plain_exit,
}


# --- the process's life


def _forked() -> None:
    session = _State.session
    if session is not None:
        try:
            session.forked()
        except BaseException as error:  # noqa: BLE001
            session.guard(error)


def _finish() -> None:
    if _State.session is not None:
        _State.session.finish()


def _finish_as_child(_: object) -> None:
    """Children of multiprocessing leave by os._exit, after these finalizers, which they empty when they begin."""
    util.Finalize(None, _finish, exitpriority=-1000)
