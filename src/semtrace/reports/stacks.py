"""Stacks as text for people: the user's own frames with their source, the libraries' only counted. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from semtrace.model import Frame, Holder, Lock, ProcessId, Snapshot, Waiter, is_hidden, is_own
from semtrace.present.waits import target_text
from semtrace.present.wording import thread
from semtrace.text import clean, label

_MOST_OWN = 12


def stack_report(snapshot: Snapshot) -> Iterator[str]:
    """Yield the known stacks of all holders and waiters, lock by lock. Then follow threads that wait for other things:
    a private lock, the end of a process, a pipe.
    """
    shown: set[tuple[ProcessId, int | None]] = set()
    for lock in snapshot.locks:
        threads: tuple[Holder | Waiter, ...] = (*lock.holders, *lock.waiters)
        shown.update((each.process, each.tid) for each in threads if each.stack)
        yield from _of_lock(lock)
    for wait in snapshot.waits.waits:
        if wait.stack and not wait.idle and wait.thread not in shown:
            yield f"{thread(wait.thread.process, wait.thread.tid)} waits for {target_text(wait.target)}"
            yield from (f"    {line}" for line in stack_lines(wait.stack))


def stack_lines(
    stack: Sequence[Frame], libraries: bool = False, opens: str = "", most: int = _MOST_OWN
) -> Iterator[str]:
    """The innermost first. Where no frame is the user's own, or with `libraries`, as they come. `opens` is the key that
    shows those of libraries too. Frames of generated code and of semtrace are left out.
    """
    stack = [frame for frame in stack if not is_hidden(frame.file)]
    own = [] if libraries else [frame for frame in stack if is_own(frame.file)]
    shown = (own or stack)[:most]
    for frame in shown:
        source = f": {clean(frame.source)}" if frame.source else ""
        yield f"{clean(frame.file)}:{frame.line} in {clean(frame.function)}{source}"
    left_out = len(stack) - len(shown)
    if left_out:
        key = f": {opens}" if own and opens else ""
        yield f"({left_out} more {'frame' if left_out == 1 else 'frames'}{' of libraries' if own else ''}{key})"


def _of_lock(lock: Lock) -> Iterator[str]:
    threads: tuple[tuple[str, Holder | Waiter], ...] = (
        *(("holds", holder) for holder in lock.holders),
        *(("waits for", waiter) for waiter in lock.waiters),
    )
    for does, each in threads:
        if each.stack:
            yield f"{thread(each.process, each.tid)} {does} {label(lock)}"
            yield from (f"    {line}" for line in stack_lines(each.stack))
