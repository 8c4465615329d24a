"""Find the names of a process's locks in its source, by a walk of its modules from outside.

A name may be late (the target goes on meanwhile) or one of several; every one was true when it was read. A walk ends
within its budget. A failure is described in `reason`, never raised.
"""

from __future__ import annotations

import time
from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import field

from semtrace.cpython.budget import Budget
from semtrace.cpython.classes import Classes, Form
from semtrace.cpython.crawl import Crawl, Node
from semtrace.cpython.frames import read_frames
from semtrace.cpython.layout import Layout
from semtrace.cpython.lockfiles import NamedFile, named_file
from semtrace.cpython.modules import Modules, Zone
from semtrace.cpython.naming import Naming, plain
from semtrace.cpython.page_cache import Pages, Readable
from semtrace.cpython.runtime import UnreadableError, locate
from semtrace.cpython.threadlock import FoundThreadLock, form_of, kind_of, queue_slot, resolve
from semtrace.lazydata import dataclass
from semtrace.linux.maps import Mapping, read_mappings

_MOST_NAMES = 32  # of one lock
_MOST_FILES = 64
_FILES = (Form.FILE_LOCK, Form.OPEN_FILE)


@dataclass(frozen=True)
class Named:
    """One name of a lock.

    `address` is that of the C object `_multiprocessing.SemLock`; `kind` the class of the Python object around it, a
    subclass by its own name. `owner` is the name of the larger primitive that the lock is a part of, `owner_kind` its
    class. `own` is False if the name begins in a library's module.
    """

    address: int
    name: str
    kind: str
    owner: str | None = None
    owner_kind: str | None = None
    own: bool = True


@dataclass(frozen=True)
class Walk:
    """The result of one walk. `semlocks` has the names of each lock, the best first, by the address of its C object.

    `files` are the file locks and open files that the user's own modules lead to.
    `complete` is False if something was left out, and then `reason` says why. `layout` is for `read_thread_lock`,
    None if no interpreter could be read. `objects` were looked at in `reads` reads.
    """

    semlocks: Dict[int, tuple[Named, ...]] = field(default_factory=dict)
    thread_locks: tuple[FoundThreadLock, ...] = ()
    files: tuple[NamedFile, ...] = ()
    layout: Layout | None = None
    objects: int = 0
    reads: int = 0
    seconds: float = 0.0
    complete: bool = False
    reason: str | None = None


def walk(
    pid: int,
    memory: Readable,
    *,
    mappings: Sequence[Mapping] | None = None,
    budget_s: float = 1.0,
    max_objects: int = 200_000,
    all_thread_locks: bool = False,
    only_user: bool = False,
) -> Walk:
    """Names every lock that the modules of process `pid` lead to.

    Threading and asyncio locks are those that the user's own modules and classes lead to, with `all_thread_locks`
    every one. `only_user` leaves out all other modules: what they name is not found.
    """
    begun = time.perf_counter()
    pages = Pages(memory)
    if mappings is None:
        try:
            mappings = read_mappings(pid) or ()
        except PermissionError:
            return Walk(reason="not permitted to read its mappings")
    try:
        runtime, objects = locate(pages, mappings)
    except UnreadableError as error:
        return Walk(reason=str(error), reads=pages.reads, seconds=time.perf_counter() - begun)
    classes = Classes(objects)
    budget = Budget(budget_s, max_objects)
    modules = Modules(objects, runtime.modules, budget)
    frames = tuple(read_frames(objects, classes, runtime.interpreters, budget))
    crawl = Crawl(objects, classes, modules, budget, frames, only_user)
    crawl.run()
    naming = Naming(objects, classes)
    semlocks = _semlocks(crawl, naming)
    thread_locks = _thread_locks(crawl, naming, all_thread_locks)
    reason = budget.reason or ("more memory than a walk may read" if pages.full else None)
    return Walk(
        semlocks=semlocks,
        thread_locks=thread_locks,
        files=_files(crawl, naming),
        layout=runtime.layout,
        objects=budget.looked_at,
        reads=pages.reads,
        seconds=time.perf_counter() - begun,
        complete=reason is None,
        reason=reason,
    )


def _semlocks(crawl: Crawl, naming: Naming) -> dict[int, tuple[Named, ...]]:
    nodes: dict[int, list[Node]] = {}
    inner: dict[int, int] = {}  # address of a wrapper: that of its C object
    for node in crawl.found:
        if node.cls is None or node.cls.form not in (Form.WRAPPER, Form.SEMLOCK):
            continue
        if node.address not in inner:
            inner[node.address] = _semlock_of(crawl.classes, node)
        if address := inner[node.address]:
            nodes.setdefault(address, []).append(node)
    return {
        address: tuple(_named(address, node, naming) for node in _best(found, naming))
        for address, found in nodes.items()
    }


def _semlock_of(classes: Classes, node: Node) -> int:
    """The address of the C object, 0 without one."""
    if node.cls is None or node.cls.form is Form.SEMLOCK:
        return node.address
    address = classes.attribute(node.address, node.cls, "_semlock")
    cls = classes.of(address)
    return address if cls is not None and cls.form is Form.SEMLOCK else 0


def _named(address: int, node: Node, naming: Naming) -> Named:
    owner = node.part_of
    return Named(
        address=address,
        name=naming.name(node),
        kind=plain(node.cls.kind) if node.cls else "SemLock",
        owner=naming.name(owner) if owner else None,
        owner_kind=plain(owner.cls.kind) if owner and owner.cls else None,
        own=node.zone is Zone.USER,
    )


def _thread_locks(crawl: Crawl, naming: Naming, everything: bool) -> tuple[FoundThreadLock, ...]:
    nodes: dict[int, list[Node]] = {}
    sources = {}
    for node in crawl.found:
        if node.cls is None or node.cls.form in (Form.WRAPPER, Form.SEMLOCK, *_FILES) or not (node.own or everything):
            continue
        source = resolve(crawl.objects, crawl.classes, node.address, node.cls)
        if source is not None:
            nodes.setdefault(source[0], []).append(node)
            sources[source[0]] = source
    found: list[FoundThreadLock] = []
    for address, ways in nodes.items():
        best = _best(ways, naming)
        _, cls, slot = sources[address]
        found.append(
            FoundThreadLock(
                name=naming.name(best[0]),
                names=tuple(naming.name(node) for node in best),
                kind=plain(kind_of(best[0].cls)) if best[0].cls else "Lock",
                address=address,
                form=form_of(cls),
                type_address=cls.address,
                slot=slot,
                own=any(node.own for node in ways),
                value_type=crawl.objects.type_of(crawl.objects.pages.u64(slot)) if slot else 0,
                queue_slot=queue_slot(crawl.classes, address, cls),
            )
        )
    return tuple(sorted(found, key=lambda lock: lock.name))


def _files(crawl: Crawl, naming: Naming) -> tuple[NamedFile, ...]:
    nodes: dict[int, list[Node]] = {}
    for node in crawl.found:
        # Of a function's open file the path says more than the variable.
        local = node.cls is not None and node.cls.form is Form.OPEN_FILE and _is_local(node)
        if node.cls is not None and node.cls.form in _FILES and node.zone is Zone.USER and not local:
            nodes.setdefault(node.address, []).append(node)
    found = []
    for address, ways in list(nodes.items())[:_MOST_FILES]:
        best = _best(ways, naming)[0]
        file = named_file(crawl.objects, crawl.classes, naming.name(best), address, best.cls) if best.cls else None
        found += [file] if file is not None else []
    return tuple(found)


def _is_local(node: Node) -> bool:
    """Return True if the way begins with a function's variable: crawl.py Crawl.run."""
    while node.parent is not None:
        node = node.parent
    return isinstance(node.label, str) and node.label.endswith(".<locals>")


def _best(nodes: list[Node], naming: Naming) -> list[Node]:
    """Each name once: the user's own first, then what is nobody's part, then the fewest steps, then the shortest."""
    by_name: dict[str, Node] = {}
    for node in sorted(nodes, key=lambda node: _rank(node)):
        by_name.setdefault(naming.name(node), node)
        if len(by_name) >= _MOST_NAMES:
            break
    return sorted(by_name.values(), key=lambda node: (*_rank(node), len(naming.name(node)), naming.name(node)))


def _rank(node: Node) -> tuple[int, bool, bool, bool, int]:
    """A function's variable comes after other names, unless it is a primitive of which the lock is a part."""
    steps, at = 0, node
    while at.parent is not None:
        steps, at = steps + 1, at.parent
    part, variable = node.part_of is not None, at.address == 0
    return int(node.zone), variable and not part, not (node.own or part), part, steps
