"""Sources of pictures: anything that takes snapshots, read by one thread alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from semtrace.model import Snapshot


class Source(Protocol):
    """`snapshot` may block for some milliseconds. It raises SemtraceError for errors that a user can fix."""

    def snapshot(self) -> Snapshot: ...

    def close(self) -> None: ...


@contextmanager
def opened(open_source: Callable[[], Source]) -> Iterator[Callable[[], Snapshot]]:
    source = open_source()
    try:
        yield source.snapshot
    finally:
        source.close()
