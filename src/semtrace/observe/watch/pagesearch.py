"""The search of one process's memory page by page, which leaves out pages that were searched in a relative.

A page counts as searched if a relative's search has read it, the process existed before that search began, and the two
share the page now. Then they have shared it all the time since, and nobody can have written to it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field

from semtrace.lazydata import dataclass
from semtrace.linux.commonpages import PageTable, Parts, common_parts, without
from semtrace.linux.memory import Memory

# The target decides how often these words lie in its memory. With more of them its search is not kept for others.
_MOST_WORDS = 1 << 16

_CLOSE = 1 << 15

_MOST_RELATIVES = 2  # that are asked for each page


@dataclass(frozen=False)
class _Pass:
    """Data that was read for some words: parts and addresses are in ascending order."""

    words: frozenset[int]
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    found: list[tuple[int, int]] = field(default_factory=list)  # address and word

    def add(self, start: int, end: int, found: Sequence[tuple[int, int]]) -> None:
        if self.ends and self.ends[-1] == start:
            self.ends[-1] = end
        else:
            self.starts.append(start)
            self.ends.append(end)
        self.found += found

    def parts_within(self, start: int, end: int) -> Parts:
        first, last = bisect_right(self.ends, start), bisect_left(self.starts, end)
        return [(max(start, self.starts[at]), min(end, self.ends[at])) for at in range(first, last)]

    def found_within(self, start: int, end: int) -> list[tuple[int, int]]:
        return self.found[bisect_left(self.found, (start, 0)) : bisect_left(self.found, (end, 0))]


class PageSearch:
    """Search in ascending order of addresses. All that it has covered was read at `began_s` or later, by itself or by
    one of the `relatives`, whose searches are over and began when this process existed already.
    """

    def __init__(
        self, memory: Memory, table: PageTable | None, began_s: float, relatives: Sequence[PageSearch]
    ) -> None:
        self.began_s = began_s
        self.bytes_spared = 0
        self._memory = memory
        self._table = table
        self._relatives = relatives
        self._passes: dict[frozenset[int], _Pass] = {}

    @property
    def helps_others(self) -> bool:
        """Return True if relatives can be spared what it has read."""
        return self._table is not None and all(len(each.found) <= _MOST_WORDS for each in self._passes.values())

    def close(self) -> None:
        """Give back the open file; from then on nobody is spared anything."""
        if self._table is not None:
            self._table.close()
        self._table, self._relatives = None, ()
        self._passes.clear()

    def find_words(self, start: int, end: int, wanted: Sequence[int]) -> list[tuple[int, int]]:
        """Return what `Memory.find_words` would, of whole pages."""
        words = frozenset(wanted)
        left: Parts = [(start, end)]
        found: list[tuple[int, int]] = []
        for searched, common in self._in_common(start, end, words):
            found += [each for part in common for each in searched.found_within(*part) if each[1] in words]
            left = without(left, common)
        self.bytes_spared += end - start - sum(high - low for low, high in left)
        for low, high in _joined(left):
            found += [(at, wanted[number]) for at, number in self._memory.find_words(low, high, wanted)]
        found = sorted(set(found))
        self._passes.setdefault(words, _Pass(words)).add(start, end, found)
        return [(at, number) for at, word in found for number, each in enumerate(wanted) if each == word]

    def _in_common(self, start: int, end: int, words: frozenset[int]) -> Iterator[tuple[_Pass, Parts]]:
        """Yield the parts that a relative has searched for all these words and that are in common."""
        able = [
            (each, table, searched)
            for each in self._relatives
            if (table := each._table) is not None and (searched := each._searched(words)) is not None
        ]
        if self._table is None or not able:
            return
        parts = common_parts(self._table, [table for _, table, _ in able], start, end)
        for (relative, _, searched), common in zip(able, parts, strict=False):
            common = without(common, without([(start, end)], searched.parts_within(start, end)))
            if common:
                self.began_s = min(self.began_s, relative.began_s)
                yield searched, common

    def _searched(self, words: frozenset[int]) -> _Pass | None:
        return next((each for each in self._passes.values() if words <= each.words), None)


class LastSearch:
    """The last search of one process that is over, for its relatives. `since_s` is when it existed at the latest."""

    def __init__(self, since_s: float) -> None:
        self._since_s = since_s
        self._search: PageSearch | None = None

    @property
    def bytes_spared(self) -> int:
        return self._search.bytes_spared if self._search else 0

    def begin(
        self, memory: Memory, pid: int, now_s: float, since_s: float, relatives: Iterable[LastSearch]
    ) -> PageSearch:
        """Begin another, which is to be kept or closed. Of the relatives those count whose searches began at `since_s`
        or later, and while this process existed; the first are asked.
        """
        try:
            table = PageTable(pid)
        except OSError:
            table = None
        since_s = max(since_s, self._since_s)
        known = [found for each in relatives if each is not self and (found := each._search) is not None]
        return PageSearch(memory, table, now_s, [each for each in known if each.began_s >= since_s][:_MOST_RELATIVES])

    def keep(self, search: PageSearch) -> None:
        """Take in a search that is over."""
        self.close()
        if search.helps_others:
            self._search = search
        else:
            search.close()

    def close(self) -> None:
        if self._search is not None:
            self._search.close()
        self._search = None


def _joined(parts: Parts) -> Parts:
    """Return the parts, those that lie close to each other as one: to read what is between costs less than to stop."""
    joined: Parts = []
    for start, end in parts:
        first = joined.pop()[0] if joined and start - joined[-1][1] <= _CLOSE else start
        joined.append((first, end))
    return joined
