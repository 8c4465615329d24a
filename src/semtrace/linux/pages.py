"""Which pages of another process have ever been used, so that a search reads those and no others.

Reading an untouched page would be slow for nothing, and would give the target page tables that it did not have.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from array import array
from collections.abc import Iterator

from semtrace.linux import withheld
from semtrace.linux.process import PAGE_SIZE

# include/uapi/linux/fs.h (Linux 6.7): struct pm_scan_arg, struct page_region, PAGE_IS_*.
_SCAN = struct.Struct("=12Q")
_REGION = struct.Struct("=3Q")
_PAGEMAP_SCAN = (3 << 30) | (_SCAN.size << 16) | (ord("f") << 8) | 16
_PRESENT, _SWAPPED, _PFNZERO = 1 << 3, 1 << 4, 1 << 5
_REGIONS = 512

# Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped.
_TOUCHED_SHIFT = 62
_ENTRIES = 1 << 16


def touched(pid: int, start: int, end: int, *, by_ioctl: bool = True) -> Iterator[tuple[int, int]]:
    """The parts of [start, end) that are in memory or swapped out; all of it where the kernel does not say."""
    try:
        path = f"/proc/{pid}/pagemap"
        withheld.check(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield start, end
        return
    try:
        if by_ioctl:
            try:
                yield from _by_scan(fd, start, end)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTTY, errno.EINVAL):
                    return
        yield from _by_reading(fd, start, end)
    finally:
        os.close(fd)


def _by_scan(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Raises OSError: ENOTTY before Linux 6.7."""
    regions = array("B", bytes(_REGION.size * _REGIONS))
    address, _ = regions.buffer_info()
    while start < end:
        inverted, all_of, any_of = _PFNZERO, _PFNZERO, _PRESENT | _SWAPPED
        arg = bytearray(
            _SCAN.pack(_SCAN.size, 0, start, end, 0, address, _REGIONS, 0, inverted, all_of, any_of, _PRESENT)
        )
        count = fcntl.ioctl(fd, _PAGEMAP_SCAN, arg)
        for at in range(count):
            first, last, _ = _REGION.unpack_from(regions, at * _REGION.size)
            yield first, last
        walked_to = _SCAN.unpack(arg)[4]
        if walked_to <= start:
            return
        start = walked_to


def _by_reading(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    page, last = start // PAGE_SIZE, -(-end // PAGE_SIZE)
    run: tuple[int, int] | None = None
    while page < last:
        entries = array("Q")
        try:
            raw = os.pread(fd, 8 * min(_ENTRIES, last - page), 8 * page)
        except OSError:
            break
        if not raw:
            break
        entries.frombytes(raw[: len(raw) // 8 * 8])
        for index, entry in enumerate(entries, page):
            if not entry >> _TOUCHED_SHIFT:
                continue
            if run is not None and run[1] == index:
                run = (run[0], index + 1)
                continue
            if run is not None:
                yield run[0] * PAGE_SIZE, run[1] * PAGE_SIZE
            run = (index, index + 1)
        page += len(entries) or 1
    if run is not None:
        yield run[0] * PAGE_SIZE, run[1] * PAGE_SIZE
