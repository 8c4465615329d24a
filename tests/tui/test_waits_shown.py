"""What the live view shows of the wait graph: the first line, the marks, all kinds of waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import scenes
from support.scenes import Script, finding, holder, lock, master, picture, pid, sem, thread_locks, waiter, worker
from support.screens import SIZES, LiveView, live_view

from semtrace.model import (
    EndedChild,
    Finding,
    FindingCode,
    Problem,
    Remedy,
    Snapshot,
    Target,
    ThreadId,
    ThreadRef,
    Wait,
    WaitKind,
    Wakers,
)
from semtrace.rules.headline import headline
from semtrace.tui.screens.blocking import blocking_rows
from semtrace.tui.text import header, line, private, rows, subjects
from semtrace.tui.text.grid import Column, Row
from semtrace.tui.text.marks import Marks
from semtrace.waits.graph import graph
from semtrace.waits.tree import forest, walk
from semtrace.waits.workers import worker_states

Scenario = Callable[[LiveView, Script], Awaitable[None]]


def play(scenario: Scenario, first: Snapshot, size: tuple[int, int] = (160, 45)) -> None:
    async def go() -> None:
        source = Script(first)
        async with live_view(source, size) as seen:
            await seen.sees("Locks")
            await scenario(seen, source)

    asyncio.run(go())


def cells(columns: Sequence[Column], row: Row) -> dict[str, str]:
    return {column.title: cell.text for column, cell in zip(columns, row.cells, strict=True)}


def by_pid(snapshot: Snapshot) -> dict[str, dict[str, str]]:
    shown = [cells(rows.WORKERS, row) for row in rows.worker_rows(snapshot)]
    return {row["PID"]: row for row in shown}


def lock_states(snapshot: Snapshot) -> list[str]:
    return [cells(rows.LOCKS, row)["STATE"] for row in rows.lock_rows(snapshot, snapshot.locks, Marks(snapshot))]


def private_cells(snapshot: Snapshot) -> list[dict[str, str]]:
    shown = private.private_rows(snapshot, private.private_waits(snapshot), Marks(snapshot))
    return [cells(private.COLUMNS, row) for row in shown]


def thread(process: int, tid: int = 0) -> ThreadId:
    return ThreadId(pid(process), tid or process)


def wait(who: ThreadId, target: Target, wakers: Wakers, **changes: object) -> Wait:
    plain = Wait(who, target, False, wakers, 20.0, 20.0)
    return replace(plain, **changes)  # type: ignore[arg-type]


def held_by(who: ThreadId, target: Target, *holders: int) -> Wait:
    """A wait that only the first threads of these processes can end."""
    held = tuple(map(thread, holders))
    return wait(who, target, Wakers(held), holders=held, bound=True)


def shared(number: int, name: str) -> Target:
    return Target(WaitKind.SHARED_LOCK, name, sem(number))


def pipe() -> Target:
    return Target(WaitKind.PIPE_WRITE, "", address=77, named=False)


def nameless(process: int, kind: WaitKind = WaitKind.PRIVATE_LOCK) -> Target:
    return Target(kind, "", process=pid(process), address=0x7F00, named=False)


def graphed(waits: Sequence[Wait], *pids: int, **changes: object) -> Snapshot:
    """A snapshot of workers with one thread each that has these waits."""
    there = [worker(each, threads=1) for each in pids]
    snapshot = picture((), there, waits=graph(waits, dict.fromkeys((each.id for each in there), 1)))
    return replace(snapshot, **changes)  # type: ignore[arg-type]


def ring() -> Snapshot:
    """4711 and 4712 wait for each other's locks a and b; 4713 waits for c, which 4711 holds."""
    a = lock(1, "contended", name="a", holders=(holder(4711),), waiters=(waiter(4712),))
    b = lock(2, "contended", name="b", holders=(holder(4712),), waiters=(waiter(4711),))
    c = lock(3, "contended", name="c", holders=(holder(4711),), waiters=(waiter(4713),))
    judged = finding("deadlock", lock=sem(1), name="a", pids=(4711, 4712))
    waits = [
        held_by(thread(4712), shared(1, "a"), 4711),
        held_by(thread(4711), shared(2, "b"), 4712),
        held_by(thread(4713), shared(3, "c"), 4711),
    ]
    return graphed(waits, 4711, 4712, 4713, locks=(a, b, c), findings=(judged,))


def self_taken() -> Snapshot:
    """4711 waits for a private lock that it holds itself; the copy of 4712 is free."""
    return graphed([held_by(thread(4711), nameless(4711), 4711)], 4711, 4712)


def through_a_pipe() -> Snapshot:
    """4711 joins 4712, of which a thread writes into a full pipe that only 4711 reads."""
    end = Target(WaitKind.PROCESS_END, "", process=pid(4712))
    feeder = Target(WaitKind.THREAD_END, "QueueFeederThread", process=pid(4712), address=4720)
    waits = [
        wait(thread(4711), end, Wakers((), (pid(4712),))),
        wait(thread(4712), feeder, Wakers((thread(4712, 4720),))),
        wait(thread(4712, 4720), pipe(), Wakers((), (pid(4711),))),
    ]
    there = [worker(4711, threads=1), worker(4712, threads=2)]
    judged = Finding(
        FindingCode.DEADLOCK,
        "error",
        (),
        tuple(ThreadRef(each.thread.process, each.thread.tid) for each in waits),
        (),
        Remedy(()),
    )
    return picture((), there, waits=graph(waits, {pid(4711): 1, pid(4712): 2}), findings=(judged,))


def test_ring_through_pipe_and_process_end_is_marked_where_stuck() -> None:
    snapshot = through_a_pipe()
    marks = Marks(snapshot)
    things = [node.target for node, _ in walk(forest(snapshot.waits)) if node.wait is None and not node.again]
    assert len(things) == 3
    assert [marks.of_target(each) for each in things] == ["deadlock"] * 3
    assert any(node.cycle for node, _ in walk(forest(snapshot.waits)))


# ---- the first line


@pytest.mark.parametrize("size", SIZES)
def test_the_first_line_answers_whether_the_server_moves(size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.until(lambda: seen.lines[0].startswith(" OK: 2 workers"), "the answer")
        source.show(ring())
        await seen.until(lambda: seen.lines[0].startswith(" DEADLOCK: 3 of 3 workers wait"), "the verdict")
        assert any("#ff6b6b" in each for each in seen.style_of("DEADLOCK"))

    play(scenario, picture((), [worker(4711), worker(4712)]), size)


@pytest.mark.parametrize(("height", "line_of_name"), [(45, 1), (20, 1), (19, 0)])
def test_the_identity_has_a_line_where_there_is_room(height: int, line_of_name: int) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("OK: 2 workers", "myapp:app")
        assert "myapp:app" in seen.lines[line_of_name]

    play(scenario, picture((), [worker(4711), worker(4712)]), (100, height))


def test_a_server_that_has_ended_is_not_called_ok() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("OK: ")
        source.show(picture((), [worker(4711)], alive=False))
        await seen.sees("Server ended")
        assert "ENDED:" not in seen.text
        assert "myapp:app" in seen.lines[1]

    play(scenario, picture((), [worker(4711)]))


@given(st.integers(20, 200), st.booleans(), st.booleans())
def test_the_first_line_has_its_width_and_says_the_pause(width: int, paused: bool, alone: bool) -> None:
    snapshot = replace(ring(), problems=(scenes.refused(),))
    gauge = header.Gauge(0.2, 2.0, 3.0, paused)
    said = header.headline_line(headline(snapshot), snapshot.server, snapshot, gauge, width, alone)
    assert line.width_of(said) == width
    assert ("PAUSED" in line.text_of(said)) is paused
    assert "……" not in line.text_of(said)


# ---- processes


def test_waits_for_shows_pipes_joins_and_private_locks() -> None:
    snapshot = graphed(
        [
            wait(thread(4711), Target(WaitKind.PROCESS_END, "", process=pid(4712)), Wakers((), (pid(4712),))),
            wait(thread(4712, 4720), pipe(), Wakers((), (pid(4711),))),
            wait(thread(4712, 4721), replace(nameless(4712), name="app.guard"), Wakers((), (pid(4712),))),
        ],
        4711,
        4712,
    )
    shown = by_pid(snapshot)
    assert shown["4711"]["WAITS FOR"] == "the end of PID 4712"
    assert shown["4712"]["WAITS FOR"] == "app.guard, room in a pipe"
    assert "room in a pipe" in subjects.sentence(pid(4712), snapshot)


def test_threads_that_wait_for_work_wait_for_nothing() -> None:
    snapshot = graphed([wait(thread(4711), nameless(4711), Wakers(), idle=True)], 4711)
    assert by_pid(snapshot)["4711"]["WAITS FOR"] == ""


@pytest.mark.parametrize(("width", "shown"), [(20, "the end of PID 4712"), (13, "…d of PID 4712")])
def test_a_list_is_cut_between_its_items(width: int, shown: str) -> None:
    assert line.clip_words("the end of PID 4712", max(width, 14), ", ") == shown
    assert line.clip_words("app.guard, room in a pipe", 20, ", ") == "app.guard +1"


def test_a_stuck_worker_is_marked_and_counted() -> None:
    snapshot = self_taken()
    shown = by_pid(snapshot)
    assert shown["4711"]["STATE"] == "⚠ stuck"
    assert shown["4712"]["STATE"] == "· sleeping"
    title = " ".join(line.text_of(item.line) for item in header.workers_title(snapshot, worker_states(snapshot)))
    assert title == "Workers 2 ⚠ 1 stuck 1 busy"


def test_a_parent_that_is_stuck_in_a_join_is_marked() -> None:
    waits = [
        wait(thread(4711), Target(WaitKind.PROCESS_END, "", process=pid(4712)), Wakers((), (pid(4712),))),
        wait(thread(4712), pipe(), Wakers((), (pid(4711),))),
    ]
    there = [worker(4711, threads=1, role="process"), worker(4712, ppid=4711, threads=1, role="process")]
    waited = graph(waits, dict.fromkeys((each.id for each in there), 1))
    snapshot = picture((), there, server=scenes.server(4711, kind="python"), waits=waited)
    assert [row["STATE"] for row in by_pid(snapshot).values()] == ["⚠ stuck", "⚠ stuck"]
    title = " ".join(line.text_of(item.line) for item in header.workers_title(snapshot, worker_states(snapshot)))
    assert title == "Processes 2, 1 worker ⚠ 1 stuck"


def test_defunct_children_have_rows_and_details() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("4719", "defunct", "✖ signal 9", "1 defunct")
        await seen.press("shift+tab", "end", "enter")
        await seen.sees("Defunct child 4719", "ended by signal 9")

    ended = (EndedChild(pid(4719), 4710, -9, 4.0),)
    play(scenario, picture([lock(1)], [master(), worker(4711)], ended=ended))


def test_a_held_file_lock_shows_where_somebody_waits_for_it() -> None:
    path = Target(WaitKind.FILE_LOCK, "/run/job", address=9, path="/run/job")
    snapshot = graphed([held_by(thread(4712), path, 4711)], 4711, 4712)
    assert by_pid(snapshot)["4711"]["HOLDS"] == "the lock of /run/job"
    assert subjects.sentence(pid(4711), snapshot) == "worker 4711 holds the lock of /run/job."
    assert ("holds", "the lock of /run/job") in [entry[:2] for entry in subjects.entries(pid(4711), snapshot)]


# ---- marks


def test_only_the_locks_of_the_ring_are_marked_deadlock() -> None:
    snapshot = ring()
    assert lock_states(snapshot) == ["↻ deadlock", "↻ deadlock", "⚠ stuck"]
    title = header.locks_title(rows.shown_locks(snapshot, signals=False), Marks(snapshot))
    assert " ".join(line.text_of(item.line) for item in title) == "Locks 3 ↻ 2 deadlock ⚠ 1 stuck"
    assert subjects.sentence(sem(2), snapshot).startswith("DEADLOCK: b is held by 4712")
    assert subjects.sentence(sem(3), snapshot).startswith("STUCK: c is held by 4711")


def test_a_deadlock_that_is_over_marks_nothing() -> None:
    before = ring()
    over = tuple(replace(each, over_s=3.0) for each in before.findings)
    locks = [replace(each, waiters=(), state="held") for each in before.locks]
    assert lock_states(picture(locks, before.processes, findings=over)) == ["● held"] * 3


def test_an_orphaned_lock_keeps_its_state() -> None:
    orphan = lock(1, "orphaned", name="a", waiters=(replace(waiter(4711), asleep_s=20.0),), outsiders=())
    snapshot = picture([orphan], [worker(4711, threads=1)])
    assert snapshot.waits.stuck
    assert lock_states(snapshot) == ["✖ orphaned"]


# ---- private locks


def test_private_locks_show_who_holds_and_waits() -> None:
    guard, quiet = thread_locks()
    held = replace(guard.processes[0], holder=scenes.Holder(pid(4711), 4720, 1, 9.0), waiters=(waiter(4711, 7.0),))
    guard = replace(guard, processes=(held, *guard.processes[1:]), overlap=None)
    shown, other = private_cells(picture((), thread_locks=(guard, quiet)))
    assert (shown["LOCKED NOW IN"], shown["HELD BY"], shown["FOR"]) == ("4711 4713", "4711/4720", "≥9.0s")
    assert (shown["WAITERS"], shown["WAITED"]) == ("4711", "≥7.0s")
    assert (other["HELD BY"], other["WAITERS"]) == ("", "")
    told = [entry.value for entry in subjects.entries(guard.name, picture((), thread_locks=(guard, quiet)))]
    assert "locked by thread 4720 for ≥9.0s" in told
    assert "thread 4711 waits for ≥7.0s" in told


def test_nameless_private_locks_that_somebody_waits_for_have_rows() -> None:
    (shown,) = private_cells(self_taken())
    assert shown["NAME"] == "a private lock"
    assert (shown["LOCKED NOW IN"], shown["HELD BY"], shown["WAITERS"]) == ("4711", "4711", "4711")
    assert (shown["STATE"], shown["REMARK"]) == ("⚠ stuck", "only in 4711")


def test_enter_on_a_nameless_lock_opens_its_owner() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("Private to each worker", "a private lock")
        await seen.press("tab", "enter")
        await seen.sees("Worker 4711", "⚠ stuck")

    play(scenario, self_taken())


# ---- the blocking tree


def test_a_wait_in_a_library_is_not_called_nobody() -> None:
    unknown = Target(WaitKind.UNKNOWN, "", process=pid(4711), address=5, named=False)

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("w")
        await seen.sees("Nobody waits for a lock. 1 thread waits in a library: 4711.")
        source.show(graphed([], 4711, problems=(Problem("memory", "refused", "sudo", pid(4711)),)))
        await seen.sees("Nobody waits for anybody.", "Not everything could be read")

    play(scenario, graphed([wait(thread(4711), unknown, Wakers())], 4711))


def test_a_full_pipe_has_its_readers_and_enter_opens_one() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("w")
        await seen.sees("1 thread waits behind 1 thing", "└ 4712")
        assert seen.line("room in a pipe").split()[-1] == "4711"
        await seen.press("enter")
        await seen.sees("Worker 4711")

    play(scenario, graphed([wait(thread(4712), pipe(), Wakers((), (pid(4711),)))], 4711, 4712))


def test_lock_behind_a_ring_is_called_stuck_in_the_tree() -> None:
    snapshot = ring()
    shown = [row.cells for row in reversed(list(blocking_rows(snapshot, forest(snapshot.waits))))]
    states = {each[0].text.split()[-1]: each[1].text for each in shown if each[0].text.endswith(("a", "b", "c"))}
    assert states == {"a": "↻ deadlock", "b": "↻ deadlock", "c": "⚠ stuck"}


def test_details_show_where_a_process_waits_and_its_possible_wakers() -> None:
    joined = wait(thread(4711), Target(WaitKind.PROCESS_END, "", process=pid(4712)), Wakers((), (pid(4712),)))
    snapshot = graphed([replace(joined, site="app.py:7 in main")], 4711, 4712)
    told = [entry.value for entry in subjects.entries(pid(4711), snapshot)]
    assert "the end of PID 4712 for ≥20s\n   at app.py:7 in main\n   PID 4712 can end this wait" in told


def test_the_details_say_that_nobody_can_end_a_wait() -> None:
    snapshot = self_taken()
    told = "\n".join(entry.value for entry in subjects.entries(pid(4711), snapshot))
    assert "⚠ stuck: only PID 4711 could end this wait, and it waits too" in told
