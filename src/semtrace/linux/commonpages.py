"""Find the pages that two processes share since a fork, by the numbers of the physical pages behind their memory.

While an anonymous page is common nobody can write to it: a writer gets its own copy first. And only a fork makes one
common, so two processes that have it now have had it all the while since. The kernel's samepage merging, which joins
pages that have become equal, is the one exception: where it has joined any, nothing counts as common.

Needs CAP_SYS_ADMIN: without it the numbers are 0, and no page counts as common.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence

from semtrace.linux import withheld
from semtrace.linux.process import PAGE_SIZE

# Documentation/admin-guide/mm/pagemap.rst. The upper byte of an entry for a page that is present (bit 63) and nothing
# else. It is not swapped (62), of a file or shared memory (61), write-protected for userfaultfd (57), or mapped by one
# process only (56). Bits 0 to 54 are the page's number. Bit 55 (soft-dirty) is a process's own.
_ENTRY_SIZE = 8
_COMMON, _UPPER = 0x80, 56
_NUMBER = (1 << 55) - 1

# Documentation/admin-guide/mm/ksm.rst: how many pages have been joined.
_MERGED = "/sys/kernel/mm/ksm/pages_shared"
_KERNEL_MEMORY = "/sys/kernel/mm"

Parts = list[tuple[int, int]]


class PageTable:
    """The entries of one process's pages. The open file stays bound to the program image: after an exec or the end of
    the process there are none.
    """

    __slots__ = ("_fd",)

    def __init__(self, pid: int) -> None:
        """Raises OSError as `Memory` does."""
        path = f"/proc/{pid}/pagemap"
        withheld.check(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, start: int, end: int) -> array[int]:
        """Return an entry for each page of [start, end), none at all if any cannot be read."""
        size = (end - start) // PAGE_SIZE * _ENTRY_SIZE
        entries = array("Q")
        try:
            raw = os.pread(self._fd, size, start // PAGE_SIZE * _ENTRY_SIZE)
        except OSError:
            return entries
        if len(raw) == size:
            entries.frombytes(raw)
        return entries


def common_parts(table: PageTable, others: Sequence[PageTable], start: int, end: int) -> list[Parts]:
    """Return the parts of [start, end), in whole pages, that a process shares with each of the others now. There are
    fewer lists if the last has all of it.

    Its own entries are read before and after those of the others: a page that it had both times, it had meanwhile.
    """
    found: list[Parts] = []
    entries = table.read(start, end)
    if not entries or min(entries) >> _UPPER > _COMMON:
        return found  # all of it is its own: most pages of a process that runs are
    for other in others:
        found.append(_same_parts(start, entries, other.read(start, end)))
        if found[-1] == [(start, end)]:
            break
    unchanged = table.read(start, end) == entries and not _any_merged()
    return found if unchanged else []


def _same_parts(start: int, entries: array[int], others: array[int]) -> Parts:
    if len(others) != len(entries):
        return []
    parts: Parts = []
    if entries == others and min(entries) >> _UPPER == max(entries) >> _UPPER == _COMMON and entries[0] & _NUMBER:
        return [(start, start + len(entries) * PAGE_SIZE)]
    for number, (one, other) in enumerate(zip(entries, others, strict=True)):
        if one >> _UPPER == other >> _UPPER == _COMMON and one & _NUMBER == other & _NUMBER != 0:
            at = start + number * PAGE_SIZE
            parts.append((parts.pop()[0] if parts and parts[-1][1] == at else at, at + PAGE_SIZE))
    return parts


def _any_merged() -> bool:
    """Return True unless the kernel shows that it has joined no pages."""
    try:
        fd = os.open(_MERGED, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return not os.path.isdir(_KERNEL_MEMORY)  # else a kernel without it
    except OSError:
        return True
    try:
        return os.read(fd, 32).strip() != b"0"
    except OSError:
        return True
    finally:
        os.close(fd)


def without(parts: Parts, taken: Parts) -> Parts:
    """Return what is left of the parts; both are in the order of their addresses."""
    left: Parts = []
    at = 0
    for start, end in parts:
        while at < len(taken) and taken[at][1] <= start:
            at += 1
        number = at
        while number < len(taken) and taken[number][0] < end:
            low, high = taken[number]
            if start < low:
                left.append((start, low))
            start = max(start, high)
            number += 1
        if start < end:
            left.append((start, end))
    return left
