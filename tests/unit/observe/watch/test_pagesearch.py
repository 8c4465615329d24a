"""Pages that a fork shares are searched once, and only those."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import page_numbers_are_shown

from semtrace.linux import commonpages
from semtrace.linux.commonpages import PageTable, Parts, common_parts, without
from semtrace.linux.memory import Memory
from semtrace.linux.process import PAGE_SIZE, read_stat
from semtrace.model import SemId
from semtrace.observe.watch.pagesearch import PageSearch
from semtrace.observe.watch.watched import Watched

PAGES = 24
WORD, OTHER = b"WORDWORD", b"ELSEELSE"
WANTED = [int.from_bytes(text[:4], "little") for text in (OTHER, WORD)]

# A parent with some pages that are all different, and a child. Both do what they are told, line by line.
PROGRAM = """
import ctypes, mmap, os, sys
area = mmap.mmap(-1, 24 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(24):
    area[4096 * page : 4096 * page + 8] = b"%08d" % page
area[4096 + 64 : 4096 + 72] = b"WORDWORD"
def put(page, text):
    area[4096 * page : 4096 * page + len(text)] = text
there, back = os.pipe(), os.pipe()
child = os.fork()
if not child:
    os.close(there[1])
    for line in os.fdopen(there[0]):
        exec(line)
        os.write(back[1], b"x")
    os._exit(0)
print(child, ctypes.addressof(ctypes.c_char.from_buffer(area)), flush=True)
for line in sys.stdin:
    who, _, what = line.partition(" ")
    if who == "child":
        os.write(there[1], what.encode())
        os.read(back[0], 1)
    else:
        exec(what)
    print("done", flush=True)
"""


@dataclass
class Pair:
    """The parent and its child."""

    process: subprocess.Popen[str]
    child: int
    start: int

    def do(self, who: str, what: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{who} {what}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    @property
    def end(self) -> int:
        return self.start + PAGES * PAGE_SIZE

    def pages(self, parts: Parts) -> list[int]:
        found = [(low - self.start) // PAGE_SIZE for start, end in parts for low in range(start, end, PAGE_SIZE)]
        return [page for page in found if 0 <= page < PAGES]


pytestmark = pytest.mark.skipif(not page_numbers_are_shown(), reason="the numbers of pages need CAP_SYS_ADMIN")


@pytest.fixture
def pair() -> Iterator[Pair]:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        child, start = map(int, process.stdout.readline().split())
        yield Pair(process, child, start)
        process.stdin.close()


@contextlib.contextmanager
def searches(pair: Pair, began_s: float = 1.0) -> Iterator[tuple[PageSearch, PageSearch]]:
    """A search of the parent that is over, and one of the child that knows of it."""
    with Memory(pair.process.pid) as memory, Memory(pair.child) as memory_of_child:
        parent = PageSearch(memory, PageTable(pair.process.pid), began_s, [])
        child = PageSearch(memory_of_child, PageTable(pair.child), 2.0, [parent])
        with contextlib.closing(parent), contextlib.closing(child):
            parent.find_words(pair.start, pair.end, WANTED)
            yield parent, child


def common(one: PageTable, other: PageTable, start: int, end: int) -> Parts:
    return next(iter(common_parts(one, [other], start, end)), [])


def test_pages_are_common_until_one_of_both_writes(pair: Pair) -> None:
    with contextlib.closing(PageTable(pair.process.pid)) as one, contextlib.closing(PageTable(pair.child)) as other:
        assert pair.pages(common(one, other, pair.start, pair.end)) == list(range(PAGES))
        pair.do("child", "put(3, b'x'); put(9, b'x')")
        pair.do("parent", "put(10, b'x'); put(23, b'x')")
        left = [page for page in range(PAGES) if page not in (3, 9, 10, 23)]
        assert pair.pages(common(one, other, pair.start, pair.end)) == left
        pair.do("child", "area.madvise(mmap.MADV_DONTNEED)")
        assert common(one, other, pair.start, pair.end) == []


def test_same_contents_do_not_make_pages_common(pair: Pair) -> None:
    for who in ("parent", "child"):
        pair.do(who, "put(5, b'same')")
    with contextlib.closing(PageTable(pair.process.pid)) as one, contextlib.closing(PageTable(pair.child)) as other:
        assert 5 not in pair.pages(common(one, other, pair.start, pair.end))


@pytest.mark.parametrize("merged", ["1\n", "", None])
def test_nothing_is_common_where_the_kernel_may_have_joined_pages(
    pair: Pair, merged: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commonpages, "_MERGED", str(tmp_path / "pages_shared"))
    if merged is None:
        monkeypatch.setattr(commonpages, "_KERNEL_MEMORY", str(tmp_path / "not mounted"))
    else:
        (tmp_path / "pages_shared").write_text(merged)
    with contextlib.closing(PageTable(pair.process.pid)) as one, contextlib.closing(PageTable(pair.child)) as other:
        assert common(one, other, pair.start, pair.end) == []


PRESENT, SOFT_DIRTY, EXCLUSIVE, PROTECTED, FILE = 1 << 63, 1 << 55, 1 << 56, 1 << 57, 1 << 61


class Table:
    """Imitates PageTable: each reading gives the next entries."""

    def __init__(self, *entries: int) -> None:
        self.entries = list(entries)

    def read(self, start: int, end: int) -> array[int]:
        entry = self.entries.pop(0) if len(self.entries) > 1 else self.entries[0]
        return array("Q", [entry] * ((end - start) // PAGE_SIZE))


@pytest.mark.parametrize(
    ("what", "one", "other", "is_common"),
    [
        ("the same page", [PRESENT | 7], [PRESENT | 7], True),
        ("written since the kernel was asked to note that", [PRESENT | 7], [PRESENT | SOFT_DIRTY | 7], True),
        ("another page", [PRESENT | 7], [PRESENT | 8], False),
        ("numbers that are hidden", [PRESENT], [PRESENT], False),
        ("hidden, and written", [PRESENT | SOFT_DIRTY], [PRESENT | SOFT_DIRTY], False),
        ("mapped by one alone", [PRESENT | EXCLUSIVE | 7], [PRESENT | EXCLUSIVE | 7], False),
        ("page of a file", [PRESENT | FILE | 7], [PRESENT | FILE | 7], False),
        ("guarded by userfaultfd", [PRESENT | PROTECTED | 7], [PRESENT | PROTECTED | 7], False),
        ("swapped out", [1 << 62 | 7], [1 << 62 | 7], False),
        ("one that changed meanwhile", [PRESENT | 7, PRESENT | 9], [PRESENT | 7], False),
        ("one that came meanwhile", [PRESENT | 9, PRESENT | 7], [PRESENT | 7], False),
        ("mapped by the other alone", [PRESENT | 7], [PRESENT | EXCLUSIVE | 7], False),
    ],
)
def test_which_entries_show_a_common_page(what: str, one: list[int], other: list[int], is_common: bool) -> None:
    found = common(Table(*one), Table(*other), 0, 2 * PAGE_SIZE)  # type: ignore[arg-type]
    assert found == ([(0, 2 * PAGE_SIZE)] if is_common else []), what


def test_relatives_are_asked_until_all_pages_are_in_common() -> None:
    mine, same, another = Table(PRESENT | 7), Table(PRESENT | 7), Table(PRESENT | 8)
    found = common_parts(mine, [another, same, another], 0, PAGE_SIZE)  # type: ignore[list-item, arg-type]
    assert found == [[], [(0, PAGE_SIZE)]]


@pytest.mark.parametrize(
    ("parts", "taken", "left"),
    [
        ([(0, 9)], [], [(0, 9)]),
        ([(0, 9)], [(0, 9)], []),
        ([(0, 9)], [(0, 2), (4, 5), (7, 9)], [(2, 4), (5, 7)]),
        ([(0, 3), (5, 9)], [(5, 6)], [(0, 3), (6, 9)]),
        ([(0, 3), (5, 9)], [(1, 2), (8, 9)], [(0, 1), (2, 3), (5, 8)]),
        ([(2, 4), (6, 9)], [(0, 3), (3, 7), (12, 14)], [(7, 9)]),
        ([(2, 4), (6, 9)], [(0, 20)], []),
        ([(5, 9)], [(0, 2), (4, 6)], [(6, 9)]),
        ([], [(1, 2)], []),
    ],
)
def test_parts_without_others(parts: Parts, taken: Parts, left: Parts) -> None:
    assert without(parts, taken) == left


def test_common_pages_are_searched_once_and_all_others_again(pair: Pair) -> None:
    pair.do("child", f"put(7, {OTHER!r}); put(20, {WORD!r})")
    with searches(pair) as (_, child):
        found = child.find_words(pair.start, pair.end, WANTED)
        spared = child.bytes_spared
    in_common = [(pair.start + PAGE_SIZE + at, 1) for at in (64, 68)]
    own = [(pair.start + page * PAGE_SIZE + at, n) for page, n in ((7, 0), (20, 1)) for at in (0, 4)]
    assert found == in_common + own
    assert spared == (PAGES - 2) * PAGE_SIZE


def test_page_written_after_the_search_of_the_parent_is_searched(pair: Pair) -> None:
    with searches(pair) as (_, child):
        pair.do("child", f"put(2, {WORD!r})")
        assert (pair.start + 2 * PAGE_SIZE, 1) in child.find_words(pair.start, pair.end, WANTED)


def test_search_that_spared_pages_is_as_old_as_its_source(pair: Pair) -> None:
    with searches(pair, began_s=1.0) as (_, child):
        assert child.began_s == 2.0
        child.find_words(pair.start, pair.end, WANTED)
        assert child.began_s == 1.0


def test_nothing_is_spared_for_words_that_were_not_searched_for(pair: Pair) -> None:
    with searches(pair) as (_, child):
        child.find_words(pair.start, pair.end, [*WANTED, 77])
        assert child.bytes_spared == 0
        child.find_words(pair.start, pair.end, WANTED[1:])
        assert child.bytes_spared == PAGES * PAGE_SIZE


def test_nothing_is_spared_that_the_parent_did_not_search(pair: Pair) -> None:
    with Memory(pair.process.pid) as memory, Memory(pair.child) as memory_of_child:
        parent = PageSearch(memory, PageTable(pair.process.pid), 1.0, [])
        child = PageSearch(memory_of_child, PageTable(pair.child), 2.0, [parent])
        parent.find_words(pair.start + 4 * PAGE_SIZE, pair.start + 6 * PAGE_SIZE, WANTED)
        assert child.find_words(pair.start, pair.end, WANTED)
        assert child.bytes_spared == 2 * PAGE_SIZE
        parent.close()
        child.find_words(pair.start, pair.end, WANTED)
        assert child.bytes_spared == 2 * PAGE_SIZE
        child.close()


SEM = SemId(0, 27, 1)


def searched(watched: Watched, since_s: float, relatives: list[Watched]) -> int:
    """Search it wholly, and return how many bytes were spared."""
    watched.semaphores, watched.objects = {SEM: 0x7F1D70001000}, {SEM: []}
    watched.searched_s.clear()
    while SEM not in watched.searched_s:
        assert watched.continue_search(time.monotonic(), {SEM: since_s}, relatives)
    assert watched.searched_s[SEM] >= since_s
    return watched.last_search.bytes_spared


def test_relatives_count_if_searched_within_the_lifetime_and_recently_enough(pair: Pair) -> None:
    pids = (pair.process.pid, pair.child)
    stats = [stat for pid in pids if (stat := read_stat(pid))]
    with contextlib.closing(Watched(stats[0])) as parent, contextlib.closing(Watched(stats[1])) as child:
        before_s = time.monotonic()
        assert searched(parent, before_s, [parent, child]) == 0
        after_s = time.monotonic()
        assert searched(child, after_s, [parent, child]) == 0, "it must not be older than that"
        assert searched(child, before_s, [parent, child]) > PAGES * PAGE_SIZE
        with contextlib.closing(Watched(stats[1])) as younger:
            assert searched(younger, before_s, [parent]) == 0, "it may have been born after the search"


def test_search_that_is_given_up_leaves_no_file_open(pair: Pair) -> None:
    stat = read_stat(pair.child)
    assert stat is not None
    with contextlib.closing(Watched(stat)) as watched:
        before = len(os.listdir("/proc/self/fd"))
        watched.semaphores, watched.objects = {SEM: 0x7F1D70001000}, {SEM: []}
        assert watched.continue_search(time.monotonic(), {SEM: time.monotonic()})
        assert len(os.listdir("/proc/self/fd")) == before + 1
        watched.relist(time.monotonic(), at_once=True)  # it maps nothing of that sort
        assert len(os.listdir("/proc/self/fd")) == before
