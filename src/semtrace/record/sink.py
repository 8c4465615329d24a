"""Sinks for chunks: a new file that only its owner can read, or memory whose oldest part is dropped."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from semtrace.errors import SemtraceError, UsageError
from semtrace.linux import safefile
from semtrace.record.chunks import Chunk, ChunkKind, encode


class CannotWrite(SemtraceError):
    """The file takes no more, or cannot be made."""


class Full(Exception):
    """The file has become as large as it may."""


class File:
    """A recording that grows. What was written whole stays readable, whatever happens next."""

    def __init__(self, path: Path, most: int | None = None) -> None:
        self.path = path
        self.size = 0
        self._most = most
        try:
            with safefile.directory(path.absolute().parent, private=False) as directory:
                self._fd = safefile.create(path.name, directory, os.O_WRONLY | os.O_APPEND)
        except FileExistsError:
            raise UsageError(f"{path} is there already", "choose another name, or remove it") from None
        except OSError as error:
            raise CannotWrite(
                f"cannot make {path}: {error.strerror}", "choose a folder that you can write in"
            ) from None

    def write(self, chunks: Iterable[Chunk]) -> None:
        """Append chunks. Raises Full before one that does not fit, CannotWrite if the disk does not take it."""
        for chunk in chunks:
            data = encode(chunk)
            if self._most is not None and self.size and self.size + len(data) > self._most:
                raise Full
            self._append(data)

    def _append(self, data: bytes) -> None:
        """A chunk that was written in part is cut off again, if the disk lets us: readers pass over it anyway."""
        try:
            written = 0
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise CannotWrite(
                f"cannot write to {self.path}: {error.strerror}; what was recorded before can be read", "make room"
            ) from error
        self.size += len(data)

    def close(self) -> None:
        os.close(self._fd)


class Ring:
    """The chunks of the last `keep_ns`, in groups that are dropped as a whole. At least two groups stay."""

    def __init__(self, keep_ns: int, most: int) -> None:
        self._keep_ns = keep_ns
        self._most = most
        self._groups: deque[list[Chunk]] = deque()
        self._bytes = 0

    def add(self, chunk: Chunk) -> None:
        if chunk.kind == ChunkKind.GROUP or not self._groups:
            self._groups.append([])
        self._groups[-1].append(chunk)
        self._bytes += chunk.size
        while len(self._groups) > 2 and self._is_over(chunk.last_ns):
            self._bytes -= sum(each.size for each in self._groups.popleft())

    def _is_over(self, now_ns: int) -> bool:
        """Return True if all but the oldest group last long enough, or all together take too much."""
        return now_ns - self._groups[1][0].first_ns >= self._keep_ns or self._bytes > self._most

    def taken(self) -> Iterator[Chunk]:
        """Yield all chunks, and forget them."""
        groups, self._groups, self._bytes = self._groups, deque(), 0
        for group in groups:
            yield from group
