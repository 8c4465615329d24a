"""The text of `semtrace dump`, for hand-built snapshots: what a person reads, not how the columns lie."""

from __future__ import annotations

from dataclasses import replace

import pytest

from semtrace.model import (
    SEM_VALUE_MAX,
    EndedChild,
    Holder,
    Lock,
    LockState,
    Problem,
    Process,
    ProcessId,
    SemId,
    Server,
    Snapshot,
    Target,
    ThreadId,
    Wait,
    Waiter,
    WaitKind,
    Wakers,
)
from semtrace.reports.dump import problems, report
from semtrace.waits.build import wait_graph

START = 1_700_000_000.0
MASTER = ProcessId(4710, 100)
WORKERS = [ProcessId(4711 + n, 101 + n) for n in range(4)]
LOCK = SemId(0, 27, 42)


def process(pid: ProcessId, **changes: object) -> Process:
    role = "master" if pid == MASTER else "worker"
    plain = Process(pid, 4710, role, "sleeping", 41 << 20, 1, START + 1, 0.3, None)
    return replace(plain, **changes)  # type: ignore[arg-type]


def lock(state: LockState = "free", **changes: object) -> Lock:
    everyone = (MASTER, *WORKERS)
    plain = Lock(LOCK, "Lock", state, 0, 1, name="myapp.lock", names=("myapp.lock",), mapped_by=everyone)
    return replace(plain, **changes)  # type: ignore[arg-type]


def snapshot(*locks: Lock, **changes: object) -> Snapshot:
    server = Server("gunicorn", MASTER, "gunicorn -w 4 --preload myapp:app", START, "alice", "27.0.1", "myapp:app")
    everyone = tuple(process(pid) for pid in (MASTER, *WORKERS))
    plain = Snapshot(server, START + 192, 1000.0, everyone, locks)
    made = replace(plain, **changes)  # type: ignore[arg-type]
    return replace(made, waits=wait_graph(made, assume_asked=True))


def lines(*locks: Lock, signals: bool = False, colour: bool = False, **changes: object) -> list[str]:
    return list(report(snapshot(*locks, **changes), signals=signals, colour=colour))


def line_of(found: list[str], word: str) -> str:
    """The one line that begins with this word."""
    (line,) = [line for line in found if line.lstrip().startswith(word)]
    return line


def test_head_names_the_server_its_user_and_its_uptime() -> None:
    answer, *heading = lines(lock())[:3]
    assert answer == "OK: 4 workers, 4 busy"
    head = " ".join(heading)
    for word in ("gunicorn", "27.0.1", "4710", "myapp:app", "3m12s", "alice"):
        assert word in head


def test_every_process_has_a_line_with_its_holds_and_waits() -> None:
    everyone = (process(MASTER), process(WORKERS[0], holds=(LOCK,)), process(WORKERS[1], waits_on=(LOCK,)))
    found = lines(lock("contended", waiters=(Waiter(WORKERS[1], 4712, 3.0),)), processes=everyone)
    assert "master" in line_of(found, "4710")
    assert line_of(found, "4711").split()[-2:] == ["myapp.lock", "-"]
    assert line_of(found, "4712").split()[-2:] == ["-", "myapp.lock"]


def test_waits_for_anything_else_are_shown_too() -> None:
    ends = Target(WaitKind.PROCESS_END, "", process=WORKERS[2])
    wait = Wait(ThreadId(WORKERS[1], 4712), ends, False, Wakers(processes=(WORKERS[2],)), asleep_s=5.0)
    found = lines(blocked=(wait,))
    assert line_of(found, "4712").endswith("the end of PID 4713")
    work = replace(wait, idle=True)
    assert line_of(lines(blocked=(work,)), "4712").endswith("-")


def test_defunct_children_are_rows_of_the_table() -> None:
    ended = (EndedChild(ProcessId(5001, 7), 4711, -9, 8.0), EndedChild(ProcessId(5002, 7), 4711, None, None))
    killed, unknown = (line_of(lines(ended=ended), each) for each in ("5001", "5002"))
    assert "defunct (-9)" in killed
    assert "ended 8.0s ago" in killed
    assert "defunct " in unknown
    assert "ago" not in unknown


def test_a_free_lock_has_nobody() -> None:
    words = line_of(lines(lock("free", value=1)), "myapp.lock").split()
    assert words[:4] == ["myapp.lock", "Lock", "free", "1"]
    assert not any(str(pid.pid) in words for pid in WORKERS)


def test_held_lock_names_its_holder_and_a_minimum_duration() -> None:
    line = line_of(lines(lock("held", holders=(Holder(WORKERS[0], 4711, 1, 12.0),))), "myapp.lock")
    assert " held " in line
    assert " 4711 " in line
    assert "≥12s" in line


def test_a_holder_that_was_only_just_seen_has_no_time() -> None:
    line = line_of(lines(lock("held", holders=(Holder(WORKERS[0], 4711, 1, None),))), "myapp.lock")
    assert "≥" not in line


def test_thread_and_depth_are_shown_where_they_are_informative() -> None:
    held = lock("held", kind="RLock", holders=(Holder(WORKERS[0], 9000, 3),))
    line = line_of(lines(held), "myapp.lock")
    assert "4711/9000×3" in line


def test_waiters_come_in_their_order_and_many_are_cut_short() -> None:
    waiters = tuple(Waiter(ProcessId(5000 + n, 1), 5000 + n, 30.0 - n) for n in range(20))
    line = line_of(lines(lock("contended", holders=(Holder(WORKERS[0], 4711, 1),), waiters=waiters)), "myapp.lock")
    assert line.index("5000") < line.index("5001") < line.index("5002")
    assert "≥30s" in line
    assert "5019" not in line
    assert "+" in line


@pytest.mark.parametrize("state", ["free", "held", "contended", "exhausted", "orphaned", "unknown"])
def test_every_state_is_one_word_with_its_reason_below(state: LockState) -> None:
    found = lines(lock(state, reason="because it is so"))
    at = next(n for n, line in enumerate(found) if line.startswith("myapp.lock"))
    assert state in found[at].split()
    assert "because it is so" in found[at + 1]


def test_a_value_that_was_not_read_is_no_zero() -> None:
    words = line_of(lines(lock("unknown", value=None, kind="unknown", maximum=None)), "myapp.lock").split()
    assert "0" not in words


def test_a_lock_without_a_name_is_called_by_its_identity() -> None:
    assert line_of(lines(lock("free", name=None, names=())), "0:27:42")


def test_signals_are_counted_and_hidden_unless_asked_for() -> None:
    parts = [
        lock("free", id=SemId(0, 27, n), name=f"myapp.event.{n}", kind="Semaphore", maximum=SEM_VALUE_MAX, signal=True)
        for n in range(50, 54)
    ]
    found = "\n".join(lines(lock(), *parts))
    assert "myapp.event.50" not in found
    assert "4 signals" in found
    everything = "\n".join(lines(lock(), *parts, signals=True))
    assert "myapp.event.50" in everything
    assert "not shown" not in everything
    assert "1 signal " in "\n".join(lines(lock(), parts[0]))


def test_without_locks_it_says_so_and_why() -> None:
    assert any("No semaphores are mapped" in line for line in lines())
    blind = Problem("list what it has mapped", "Permission denied", "sudo semtrace 4710", MASTER)
    found = lines(problems=(blind,))
    assert not any("No semaphores are mapped" in line for line in found)
    assert any("No locks can be seen" in line for line in found)


def test_the_last_picture_of_an_ended_server_is_marked() -> None:
    assert any("ENDED" in line for line in lines(lock(), alive=False))
    assert not any("ENDED" in line for line in lines(lock()))


def test_same_problem_of_many_processes_is_one_with_its_remedy() -> None:
    alike = [Problem("read its memory", "Permission denied", f"sudo semtrace {p.pid}", p) for p in WORKERS]
    other = Problem("list what it has mapped", "Permission denied", "sudo semtrace 4710", MASTER)
    found = list(problems([*alike, other]))
    assert sum("cannot read its memory" in line for line in found) == 1
    assert all(str(p.pid) in next(line for line in found if "cannot read" in line) for p in WORKERS)
    assert sum("sudo semtrace" in line for line in found) == 2
    assert len(found) == 5


def test_a_problem_of_nobody_has_no_pid() -> None:
    found = list(problems([Problem("see who waits", "no system call number", "use x86-64", None)]))
    assert "PID" not in "".join(found)


def test_problems_come_last() -> None:
    blind = Problem("read its memory", "Permission denied", "sudo semtrace 4711", WORKERS[0])
    found = lines(lock("unknown", reason="r"), problems=(blind,))
    assert found[-3] == "PROBLEMS"


def test_colour_only_where_it_is_wanted() -> None:
    shown = (lock("orphaned"), lock("held", id=SemId(0, 27, 43), name="b"), lock("free", id=SemId(0, 27, 44), name="c"))
    assert "\x1b" not in "\n".join(lines(*shown))
    coloured = [line for line in lines(*shown, colour=True) if "\x1b" in line]
    assert len(coloured) == 2
    assert all(line.endswith("\x1b[0m") for line in coloured)


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "a\nb", "a\rb", "\x9b31m", "\u202e"])
def test_a_title_or_name_cannot_give_orders_to_the_terminal(evil: str) -> None:
    shown = lock("held", name=evil, reason=evil, part_of=evil, holders=(Holder(WORKERS[0], 4711, 1),))
    holder = process(WORKERS[0], holds=(LOCK,))
    server = replace(snapshot().server, title=evil, user=evil)
    found = list(report(snapshot(shown, server=server, processes=(process(MASTER), holder))))
    assert not any(evil in line for line in found), found
    assert len(found) == len(
        list(report(snapshot(replace(shown, name="x", reason="x", part_of="x"), processes=(process(MASTER), holder))))
    )


def test_the_seed_example_fits_eighty_columns() -> None:
    everyone = (
        process(MASTER),
        process(WORKERS[0], holds=(LOCK,), cpu_percent=99.7, last_heartbeat_s=0.3),
        *(process(pid, waits_on=(LOCK,), last_heartbeat_s=12.0) for pid in WORKERS[1:]),
    )
    waiters = tuple(Waiter(pid, pid.pid, 12.4) for pid in WORKERS[1:])
    contended = lock("contended", holders=(Holder(WORKERS[0], 4711, 1, 12.4),), waiters=waiters)
    found = lines(contended, processes=everyone)
    assert [line for line in found if len(line) > 80] == []


def test_pids_of_seven_digits_still_read_well() -> None:
    who = ProcessId(4194301, 1)
    held = lock("held", holders=(Holder(who, 4194303, 1, 3.0),), mapped_by=(who,))
    assert "4194301/4194303" in line_of(lines(held, processes=(process(who),)), "myapp.lock")
