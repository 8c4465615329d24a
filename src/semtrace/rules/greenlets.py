"""Greenlets: the stack of a suspended one is not read, so a thread may hold a lock by another greenlet than is seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from semtrace.model import Frame, GreenletMayHold, Server

_LIBRARIES = ("gevent", "eventlet")
_FOLDERS = tuple(f"/{library}/" for library in _LIBRARIES)


def has_greenlets(server: Server, stacks: Iterable[Sequence[Frame] | None] = ()) -> bool:
    """Return True for gunicorn's classes gevent and eventlet, and where a stack leads through these libraries."""
    kind = server.worker_class or ""
    frames = (frame for stack in stacks for frame in stack or ())
    return any(library in kind for library in _LIBRARIES) or any(
        folder in frame.file for frame in frames for folder in _FOLDERS
    )


def may_hold(server: Server, stacks: Iterable[Sequence[Frame] | None] = ()) -> tuple[GreenletMayHold, ...]:
    """Return that a suspended greenlet may be the holder; nothing where there are none."""
    return (GreenletMayHold(server.worker_class),) if has_greenlets(server, stacks) else ()
