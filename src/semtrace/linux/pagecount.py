"""The kernel's own count of who has a page mapped: also of processes that may not be read, in whatever namespace.

It counts page tables. A process that has used a page has it there, unless the page was swapped out since; a child that
inherited the mapping and never used it has not. Needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable

from semtrace.linux import withheld
from semtrace.linux.process import PAGE_SIZE
from semtrace.linux.program import read

# Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bits 0-54 the page's number, 0 without the right to see it;
# /proc/kpagecount and /proc/kpageflags have 8 bytes for each page.
_ENTRY = struct.Struct("=Q")
_PRESENT = 1 << 63
_NUMBER = (1 << 55) - 1

# include/uapi/linux/kernel-page-flags.h KPF_COMPOUND_HEAD, KPF_COMPOUND_TAIL, KPF_THP: of a part of a larger page some
# kernels give the average only (Kconfig NO_PAGE_MAPCOUNT).
_LARGE = 1 << 15 | 1 << 16 | 1 << 22

# Pages that left page tables for swap space, since the machine booted.
_SWAPPED_OUT = re.compile(rb"^(?:pswpout|zswpout) (\d+)$", re.MULTILINE)


def are_all(mappings: Iterable[tuple[int, int]]) -> bool:
    """Return True if nobody else has used the page that is mapped by these, each a process and an address.

    False where the kernel does not show it.
    """
    entries = [_entry(f"/proc/{pid}/pagemap", address // PAGE_SIZE) for pid, address in mappings]
    used = [entry & _NUMBER for entry in entries if entry is not None and entry & _PRESENT]
    if len(set(used)) != 1 or not used[0] or _has_ever_swapped():
        return False
    flags = _entry("/proc/kpageflags", used[0])
    return flags is not None and not flags & _LARGE and _entry("/proc/kpagecount", used[0]) == len(used)


def _entry(path: str, number: int) -> int | None:
    try:
        withheld.check(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        raw = os.pread(fd, _ENTRY.size, number * _ENTRY.size)
    except OSError:
        return None
    finally:
        os.close(fd)
    return int(_ENTRY.unpack(raw)[0]) if len(raw) == _ENTRY.size else None


def _has_ever_swapped() -> bool:
    """Return True unless the kernel shows that it has not."""
    counts = _SWAPPED_OUT.findall(read("/proc/vmstat") or b"")
    return not counts or any(int(count) for count in counts)
