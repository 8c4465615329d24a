"""Rows of the panes, made from a snapshot. Pure; the look of an unmeasured value is decided here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from semtrace.lazydata import dataclass
from semtrace.model import (
    SEM_VALUE_MAX,
    EndedChild,
    Holder,
    Lock,
    Process,
    ProcessId,
    SemId,
    Server,
    Snapshot,
    Statistics,
    Wait,
    Waiter,
    WaitGraph,
    WaitKind,
)
from semtrace.observe.names.separate import combine
from semtrace.present.files import file_text
from semtrace.present.headline import headline_text
from semtrace.present.servers import kind_text
from semtrace.present.waits import target_text
from semtrace.rules.headline import Headline
from semtrace.text import UNKNOWN, age, clean, exact, percent, size
from semtrace.text import label as label
from semtrace.tui.text.grid import LIST, Cell, Column, Row, natural
from semtrace.tui.text.marks import Mark, Marks, mark_text, stuck_processes
from semtrace.tui.text.signs import AT_LEAST, TIMES, VERDICTS, lock_sign, process_sign
from semtrace.waits.workers import waits_by_process

HOT_PERCENT = 80.0
NOTHING = Cell("")
STUCK = Cell(mark_text("stuck"), "bad")

WORKERS = (
    Column("PID", 5, 7, 0, right=True),
    Column("ROLE", 7, 13, 3),
    Column("STATE", 11, 14, 5),
    Column("CPU%", 5, 6, 4, right=True),
    Column("MEM", 5, 6, 6, right=True),
    Column("AGE", 6, 6, 7, right=True),
    Column("HOLDS", 12, 44, 1, marked=True, cut="list"),
    Column("WAITS FOR", 12, 60, 2, marked=True, cut="list"),
    Column("BEAT", 6, 6, 8, right=True, sparse=True),
    Column("THREADS", 8, 8, 9, right=True),
)

LOCKS = (
    Column("STATE", 11, 11, 0, marked=True),
    Column("NAME", 18, 48, 0, cut="start"),
    Column("KIND", 10, 16, 6, cut="class"),
    Column("HELD BY", 9, 28, 1, marked=True, cut="words"),
    Column("FOR", 7, 7, 3, right=True),
    Column("WAITERS", 9, 30, 2, marked=True, cut="words"),
    Column("MAPPED", 7, 20, 13, marked=True, cut="words"),
    Column("WAITED", 7, 7, 5, right=True),
    Column("VALUE", 6, 9, 14, right=True),
    Column("TAKEN", 6, 9, 7, right=True, sparse=True),
    Column("CONT%", 6, 6, 8, right=True, sparse=True),
    Column("WAIT95", 7, 7, 10, right=True, sparse=True),
    Column("HELD95", 7, 7, 11, right=True, sparse=True),
    Column("HELDMAX", 8, 8, 12, right=True, sparse=True),
    Column("REMARK", 24, 60, 9, sparse=True),
)

SERVERS = (
    Column("PID", 5, 7, 0, right=True),
    Column("APPLICATION", 16, 40, 1, cut="start"),
    Column("HEALTH", 36, 60, 2),
    Column("SERVER", 10, 40, 3),
    Column("BIND", 15, 30, 4, cut="words"),
    Column("UP", 6, 6, 5, right=True),
    Column("USER", 5, 12, 6),
    Column("WORKER CLASS", 13, 13, 7),
)

LONG_S = 2.0
_OTHER_LOCKS = (WaitKind.PRIVATE_LOCK, WaitKind.FILE_LOCK, WaitKind.MANAGER_LOCK)
_ROLE_ORDER = {"master": 0, "process": 1, "worker": 2, "dirty-arbiter": 3, "dirty-worker": 4}


@dataclass(frozen=True)
class Shown:
    """Which of the locks are shown, and how many signals are not."""

    locks: tuple[Lock, ...]
    hidden: int


def shown_locks(snapshot: Snapshot, signals: bool) -> Shown:
    locks = tuple(lock for lock in snapshot.locks if signals or not lock.signal)
    return Shown(combine(locks), len(snapshot.locks) - len(locks))


def worker_rows(snapshot: Snapshot) -> list[Row]:
    """Return a row for each process, those of children that nobody has reaped last."""
    locks = {lock.id: lock for lock in snapshot.locks}
    waits = waits_by_process(snapshot.waits)
    held = wanted_holds(snapshot.waits)
    stuck = stuck_processes(snapshot)
    there = {process.id for process in snapshot.processes}
    rows = [
        _worker_row(
            process,
            _holds_cell(process, locks, held.get(process.id, [])),
            waits.get(process.id, ()),
            process.id in stuck,
            snapshot.taken_at,
        )
        for process in snapshot.processes
    ]
    return [*rows, *(_ended_row(child) for child in snapshot.ended if child.id not in there)]


def lock_rows(snapshot: Snapshot, locks: Iterable[Lock], marks: Marks) -> list[Row]:
    return LockRows().of(snapshot, locks, marks)


class LockRows:
    """Rows of locks, which are made again only if something of the lock is not as it was: most are free and stay so."""

    def __init__(self) -> None:
        self._everyone: frozenset[ProcessId] = frozenset()
        self._known: dict[SemId, tuple[Lock, Mark | None, Row]] = {}

    def of(self, snapshot: Snapshot, locks: Iterable[Lock], marks: Marks) -> list[Row]:
        everyone = frozenset([process.id for process in snapshot.processes])
        before = self._known if everyone == self._everyone else {}
        self._everyone, self._known = everyone, {}
        for lock in locks:
            mark, known = marks.of_lock(lock), before.get(lock.id)
            if known is None or known[1] != mark or known[0] != lock:
                known = lock, mark, _lock_row(lock, everyone, mark)
            self._known[lock.id] = known
        return [row for _, _, row in self._known.values()]


Health = Mapping[ProcessId, Headline | None]


def server_rows(servers: Iterable[Server], now: float, health: Health | None = None) -> list[Row]:
    """Return a row for each server. Those that `health` lacks are still to be checked; None: none are checked."""
    return [_server_row(server, now, health) for server in servers]


def _health_cell(server: Server, health: Health | None) -> Cell:
    if health is None:
        return NOTHING
    if server.id not in health:
        return Cell("being checked", "dim")
    answer = health[server.id]
    if answer is None:
        return Cell("cannot be read", "warning")
    return Cell(headline_text(answer), VERDICTS[answer.verdict])


def since(seconds: float | None, evidence: str = "memory") -> str:
    """Return an age: exact from events, a lower bound with its sign from samples."""
    if seconds is None:
        return UNKNOWN
    return exact(seconds) if evidence == "events" else AT_LEAST + age(seconds)


def held_by(holder: Holder) -> str:
    """Return PID and count, with `?` for a process that may only have inherited its count."""
    count = "" if holder.count == 1 else f"{TIMES}{holder.count}"
    return f"{holder.pid}{count}{'' if holder.certain else '?'}"


def units(lock: Lock) -> str:
    """Return the value and the maximum. The maximum of a plain Semaphore is meaningless and is left out."""
    if lock.value is None:
        return UNKNOWN
    return str(lock.value) if lock.maximum in (None, SEM_VALUE_MAX) else f"{lock.value}/{lock.maximum}"


def counted_pids(ids: Iterable[ProcessId]) -> str:
    """Return each PID once, with the number of its threads: `21214×3 21220`."""
    return " ".join(
        f"{process.pid}{TIMES}{count}" if count > 1 else str(process.pid) for process, count in Counter(ids).items()
    )


def pids(ids: Iterable[ProcessId]) -> str:
    return " ".join(str(each.pid) for each in ids)


def waited_for(waits: Collection[Wait]) -> list[str]:
    """Return what a process waits for, each thing once, in an order that stays."""
    return [] if not waits else sorted({target_text(wait.target) for wait in waits}, key=natural)


def end_of(child: EndedChild) -> str:
    """Return how it ended, in a word: `signal 9`, `exit 1`."""
    if child.exit_code is None:
        return "ended"
    return f"signal {-child.exit_code}" if child.exit_code < 0 else f"exit {child.exit_code}"


def wanted_holds(graph: WaitGraph) -> dict[ProcessId, list[str]]:
    """Return the locks but shared ones that each process holds and others wait for: of no more it is known."""
    found: dict[ProcessId, set[str]] = {}
    for wait in graph.waits:
        if wait.target.kind in _OTHER_LOCKS and wait.target.semaphore is None and not wait.idle:
            for holder in wait.holders or ():
                found.setdefault(holder.process, set()).add(target_text(wait.target))
    return {process: sorted(names, key=natural) for process, names in found.items()}


def _worker_row(process: Process, holds: Cell, waits: Collection[Wait], is_stuck: bool, now: float) -> Row:
    cells = (
        _number_cell(process.pid, ""),
        _role_cell(process.role),
        STUCK if is_stuck else _process_cell(process.state),
        _cpu_cell(process.cpu_percent),
        _memory_cell(process.rss),
        Cell(age(now - process.started_at), "dim", now - process.started_at),
        holds,
        Cell(LIST.join(waited_for(waits)), "bad" if is_stuck else "waiting"),
        _beat_cell(process),
        _number_cell(process.threads, "dim"),
    )
    return Row(process.id, cells, (_ROLE_ORDER.get(process.role, 1), process.started_at, process.pid))


# Cells that show little else than they showed before: they are looked up faster than made.


@lru_cache(maxsize=4096)
def _number_cell(number: int, style: str) -> Cell:
    return Cell(str(number), style, number)


@lru_cache(maxsize=256)
def _role_cell(role: str) -> Cell:
    return Cell(role, "" if role == "worker" else "dim")


@lru_cache(maxsize=256)
def _process_cell(state: str) -> Cell:
    sign = process_sign(state)
    return Cell(f"{sign.sign} {state}", sign.style)


@lru_cache(maxsize=2048)
def _cpu_cell(cpu: float | None) -> Cell:
    return Cell(percent(cpu), _cpu_style(cpu), _number(cpu))


@lru_cache(maxsize=2048)
def _memory_cell(rss: int | None) -> Cell:
    return Cell(size(rss), "", rss)


def _beat_cell(process: Process) -> Cell:
    """Return the age of the heartbeat, which only gunicorn's processes have."""
    beat = process.last_heartbeat_s
    return NOTHING if process.role == "process" and beat is None else Cell(age(beat), "dim", _number(beat))


def _ended_row(child: EndedChild) -> Row:
    sign = process_sign("zombie")
    cells = (
        Cell(str(child.pid), "dim", child.pid),
        Cell("defunct", "dim"),
        Cell(f"{sign.sign} {end_of(child)}", "dim"),
        *[NOTHING] * (len(WORKERS) - 3),
    )
    return Row(child.id, cells, (len(_ROLE_ORDER), 0.0, child.pid))


def _lock_row(lock: Lock, everyone: frozenset[ProcessId], mark: Mark | None) -> Row:
    sign = lock_sign(lock.state)
    longest = max(lock.holders, key=lambda holder: holder.since_s or 0.0, default=None)
    patient = max(lock.waiters, key=lambda waiter: waiter.for_s or 0.0, default=None)
    cells = (
        Cell(f"{sign.sign} {lock.state}", sign.style) if mark is None else Cell(mark_text(mark), "bad"),
        Cell(label(lock), "strong" if lock.name else ""),
        Cell(lock.kind, "dim"),
        Cell(" ".join(held_by(holder) for holder in lock.holders), sign.style),
        since_cell(lock, longest),
        _waiters_cell(lock),
        _mapped_cell(lock, everyone),
        Cell(since(patient.for_s, patient.evidence), "dim", _number(patient.for_s)) if patient else NOTHING,
        Cell(units(lock), "dim", _number(lock.value)),
        *_statistics_cells(lock.statistics),
        Cell(_remark(lock), "dim"),
    )
    return Row(lock.id, cells, (_rank(lock, patient, mark), natural(lock.name or "~"), *lock.id))


def since_cell(lock: Lock, longest: Holder | None) -> Cell:
    """Return how long the lock has been held, or how long it has been orphaned."""
    if longest is not None:
        return Cell(since(longest.since_s, longest.evidence), "", _number(longest.since_s))
    return Cell(since(lock.orphaned_s), "orphaned", lock.orphaned_s) if lock.orphaned_s else NOTHING


def _rank(lock: Lock, patient: Waiter | None, mark: Mark | None) -> int:
    """Return the rank: first what is wrong, then locks with a long wait. The rest keeps its place: rows that move with
    each hold could not be read.
    """
    if lock.state == "orphaned":
        return 0
    if mark is not None:
        return 1
    if lock.state == "unknown" and lock.waiters and not lock.signal:
        return 2
    return 3 if patient is not None and (patient.for_s or 0.0) >= LONG_S and not lock.signal else 4


def _statistics_cells(statistics: Statistics | None) -> tuple[Cell, ...]:
    """Return the cells of a traced lock's statistics, blank for any other lock."""
    if statistics is None:
        return (NOTHING,) * 5
    contention = 100 * (statistics.contention or 0.0)
    wait, hold = statistics.wait, statistics.hold
    return (
        Cell(str(statistics.acquired), "dim", statistics.acquired),
        Cell(percent(contention) if statistics.acquired else UNKNOWN, "dim", contention),
        Cell(exact(wait.p95_s), "dim", _number(wait.p95_s)),
        Cell(exact(hold.p95_s), "dim", _number(hold.p95_s)),
        Cell(exact(hold.max_s), "dim", _number(hold.max_s)),
    )


def _server_row(server: Server, now: float, health: Health | None) -> Row:
    cells = (
        Cell(str(server.pid), "strong", server.pid),
        Cell(clean(server.application or server.title), "strong"),
        _health_cell(server, health),
        Cell(kind_text(server)),
        Cell(clean(" ".join(server.bind)) or UNKNOWN),
        Cell(age(now - server.started_at), "dim", now - server.started_at),
        Cell(clean(server.user), "dim"),
        Cell(clean(server.worker_class or UNKNOWN), "dim"),
    )
    return Row(server.id, cells, (server.pid,))


def _holds_cell(process: Process, locks: Mapping[SemId, Lock], others: Sequence[str]) -> Cell:
    if not process.holds and not others:
        return NOTHING
    known = [locks[each] for each in process.holds if each in locks]
    names = [label(locks[each]) if each in locks else str(each) for each in process.holds]
    style = lock_sign(known[0].state).style if known else "held"
    return Cell(LIST.join(sorted([*names, *others], key=natural)), style)


def _waiters_cell(lock: Lock) -> Cell:
    waiting = lock.waiters
    if not waiting:
        return NOTHING
    return Cell(counted_pids(waiter.process for waiter in waiting), "waiting", len(waiting))


def _mapped_cell(lock: Lock, everyone: frozenset[ProcessId]) -> Cell:
    count = len(lock.mapped_by)
    if count > 1 and everyone <= frozenset(lock.mapped_by):
        return Cell(f"all {count}", "dim", count)
    return Cell(pids(lock.mapped_by), "dim", count)


def _remark(lock: Lock) -> str:
    flux = "changed while it was read" if lock.in_flux else ""
    had = _had(lock) if lock.state == "orphaned" else ""
    file = file_text(lock.file) if lock.file else ""
    return clean("; ".join(part for part in (had, file, lock.reason, flux) if part))


def _had(lock: Lock) -> str:
    dead, last = lock.dead_holder, lock.last_holder
    if dead is not None:
        return f"{dead.pid} died holding it"
    return f"{last.pid} held it last, {age(last.seen_s)} ago" if last else ""


def _cpu_style(cpu: float | None) -> str:
    if not cpu:
        return "dim"
    return "hot" if cpu >= HOT_PERCENT else ""


def _number(value: float | None) -> float:
    """Unmeasured values sort before all others."""
    return -1.0 if value is None else value
