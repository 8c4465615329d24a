"""What `semtrace doctor` prints of a diagnosis."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest
from support.snapshots import found, lock, pid, processes, ref, snapshot, thread_lock, waiter

from semtrace.model import (
    SEM_VALUE_MAX,
    Advice,
    LeakedName,
    NotChecked,
    Problem,
    Remedy,
    SharedMemory,
    Snapshot,
    Unchecked,
    Unread,
)
from semtrace.present.headline import headline_text
from semtrace.reports.diagnosis import as_severe_as, doctor_brief, doctor_json, doctor_text, is_news
from semtrace.rules import findings
from semtrace.rules.coverage import not_checked
from semtrace.rules.headline import headline
from semtrace.text import iso


def sick() -> Snapshot:
    orphan = lock(state="orphaned", reason="locked in 40 readings", waiters=(waiter(12, 75.0),))
    return replace(snapshot(orphan), findings=found(orphan, thread_locks=(thread_lock(),)))


def blind(*numbers: int) -> tuple[Problem, ...]:
    return tuple(Problem("read its memory", "Permission denied", "sudo semtrace", pid(number)) for number in numbers)


def test_a_title_the_evidence_the_remedy_and_an_empty_line() -> None:
    lines = list(doctor_text(sick(), 30))
    assert lines[:2] == ["ORPHANED: 1 of 3 workers waits for app.lock", ""]
    del lines[:2]
    assert lines[0] == "ERROR  app.lock is orphaned: the process that held it died  [orphaned-lock]"
    assert lines[1] == "    - locked in 40 readings"
    second = lines.index("")
    assert "      semtrace release 10 app.lock" in lines[:second]
    assert lines[second + 1].startswith("NOTE  app.guard is a threading.Lock")
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize("as_root", [False, True])
def test_a_command_stands_alone_and_is_never_broken(as_root: bool) -> None:
    name = "app.registry['a very long key with blanks in it']"
    pasted = f"release 10 {shlex.quote(name)} --audit /r.log"
    remedy = Remedy((Advice.DATA_NOT_REPAIRED,), ("semtrace", "release", "10", name, "--audit", "/r.log"), as_root)
    one = replace(sick().findings[0], remedy=remedy, facts=())
    lines = list(doctor_text(replace(sick(), findings=(one,)), 30, width=60))
    (whole,) = [line for line in lines if pasted in line]
    assert whole == (f'      sudo "$(command -v semtrace)" {pasted}' if as_root else f"      semtrace {pasted}")
    assert lines[-1] == whole
    assert all(len(line) <= 60 for line in lines[:-1])


def test_colour_only_where_it_is_wanted() -> None:
    assert not any("\x1b" in line for line in doctor_text(sick(), 30))
    assert list(doctor_text(sick(), 30, colour=True))[2].startswith("\x1b[1;31mERROR\x1b[0m  app.lock")


def test_nothing_wrong_says_what_was_checked_and_what_was_not() -> None:
    lines = list(doctor_text(snapshot(lock(), thread_locks=(thread_lock(),)), 30))
    assert lines[:4] == [
        "OK: 3 workers, 3 busy",
        "",
        "Nothing wrong was seen in 30 samples over 20s at gunicorn: master [app] (PID 10). Checked: 4 processes, 1 "
        "shared lock (1 free), 1 private lock.",
        "Not checked:",
    ]
    assert [each.what for each in not_checked(snapshot(lock()))] == [Unchecked.OTHER_WAITS]
    assert not any("was seen in" in line for line in doctor_text(sick(), 30))


def test_unused_names_are_one_line_at_the_end() -> None:
    left = LeakedName(lock().id, "/mp-left", 3600.0, "root")
    picture = snapshot(lock(), shared_memory=SharedMemory(1 << 30, 1 << 29, (left,)))
    lines = list(doctor_text(replace(picture, findings=findings(picture)), 30))
    assert lines[0] == "OK: 3 workers, 3 busy"
    assert lines[2].startswith("Nothing wrong was seen")
    assert lines[2].endswith("1 shared lock (1 free), /dev/shm.")
    assert lines[-2:] == ["", "WARNING  1 semaphore in /dev/shm that no process uses: semtrace clean  [leaked-name]"]


def test_full_shared_memory_is_a_finding_next_to_healthy_locks() -> None:
    picture = snapshot(lock(), shared_memory=SharedMemory(64 << 20, 0))
    lines = list(doctor_text(replace(picture, findings=findings(picture)), 30))
    assert lines[0] == "WARNING: /dev/shm is nearly full: 0B of 64M left"
    assert lines[2].endswith("[shm-full]")
    assert any(line.startswith("Nothing else wrong was seen") for line in lines)


def test_unread_parts_are_named_as_not_checked() -> None:
    shm = SharedMemory(100, 50, ())
    unread: tuple[Unread, ...] = ("private-locks", "timeout", "shared-memory", "unused-names", "memory")
    for what in unread:
        problem = Problem("ask", "no lease", "look as root", unread=what)
        gaps = not_checked(snapshot(lock(), shared_memory=shm, problems=(problem,)))
        assert [(each.what, each.reason) for each in gaps[:-1]] == [(what, "no lease")]


def test_unnamed_locks_of_several_workers_are_named_as_not_checked() -> None:
    """Each worker may have made "the" lock for itself."""
    alike = [replace(lock(None, number), mapped_by=(pid(10 + number),)) for number in (1, 2)]
    gaps = not_checked(snapshot(*alike))
    assert gaps[0] == NotChecked(Unchecked.UNNAMED_LOCKS, count=2)
    for one in (replace(alike[1], name="app.b"), replace(alike[1], mapped_by=alike[0].mapped_by)):
        assert [gap.what for gap in not_checked(snapshot(alike[0], one))] == [Unchecked.OTHER_WAITS]


def test_event_loops_are_named_as_not_checked() -> None:
    loops = tuple(replace(each, event_loop=each.role == "worker") for each in processes())
    picture = snapshot(lock(), processes=loops)
    assert NotChecked(Unchecked.ASYNC_TASKS, count=3) in not_checked(picture)
    assert headline_text(headline(picture)).endswith("; not checked: asyncio tasks")


def test_waits_that_nobody_can_judge_are_named() -> None:
    empty = lock("app.permit", kind="Semaphore", maximum=SEM_VALUE_MAX, state="exhausted", value=0)
    waits = replace(empty, waiters=(waiter(12),))
    assert not_checked(snapshot(waits))[0] == NotChecked(
        Unchecked.SEMAPHORES, count=1, locks=(ref("app.permit", kind="Semaphore"),)
    )
    assert len(not_checked(snapshot(empty))) == 1


def test_unknown_holders_of_wanted_locks_are_named() -> None:
    taken = lock("app.lock", state="unknown", value=0, reason="PID 7 maps it too", waiters=(waiter(12, 5.0),))
    assert not_checked(snapshot(taken))[0] == NotChecked(Unchecked.HOLDERS, "PID 7 maps it too", 1, (ref(),))
    assert len(not_checked(snapshot(replace(taken, waiters=())))) == 1


def test_unread_private_locks_come_before_any_verdict() -> None:
    unread = Problem("look", "no layout for CPython 3.16", "none", unread="private-locks")
    lines = list(doctor_text(snapshot(lock(), problems=(unread,)), 30))
    assert lines[0].startswith("UNKNOWN: ")
    assert any(line.startswith("Of the shared locks, nothing wrong was seen in 30 samples") for line in lines)
    assert "CPython 3.16" in lines[4]


def test_unreadable_processes_are_never_called_healthy() -> None:
    lines = list(doctor_text(snapshot(lock(), problems=blind(12)), 30))
    assert lines[0] == "OK: 3 workers, 3 busy; not checked: 1 process"
    assert "Checked: 3 processes" in lines[2]
    assert lines[4] == "    - 1 process that could not be read"
    everyone = [process.pid for process in processes()]
    lines = list(doctor_text(snapshot(problems=blind(*everyone)), 30))
    assert lines[0] == "UNKNOWN: no process of the server can be read"
    assert lines[2] == "Nothing is known: no process of gunicorn: master [app] can be read."
    assert "PROBLEMS" in lines


def test_the_json_has_the_keys_of_the_contract() -> None:
    told = json.loads(json.dumps(doctor_json(sick())))
    assert {"schema", "taken_at", "server", "findings", "problems"} <= told.keys()
    assert told["findings"][0].keys() >= {"code", "severity", "lock", "pids", "title", "evidence", "remedy"}
    assert told["findings"][0]["lock"] == "0:27:1"
    assert told["findings"][1]["lock"] is None
    assert told["not_checked"][-1]["what"] == "other-waits"


def test_brief_has_the_headline_and_one_line_for_each_finding() -> None:
    snapshot = replace(sick(), problems=blind(12))
    lines = list(doctor_brief(snapshot))
    assert lines[0].startswith("ORPHANED: ")
    assert [line.split(":")[0] for line in lines[1:-1]] == [
        f"{finding.severity.upper()} {finding.code}" for finding in snapshot.findings
    ]
    assert lines[-1] == "NOT SEEN: PID 12: cannot read its memory: Permission denied"
    assert all(line.startswith(iso(snapshot.taken_at)) for line in doctor_brief(snapshot, at=True))


@pytest.mark.parametrize(("limit", "fails"), [("error", False), ("warning", True), ("note", True), ("nothing", False)])
def test_a_warning_fails_only_where_it_is_asked_to(limit: str, fails: bool) -> None:
    warned = tuple(replace(finding, severity="warning") for finding in sick().findings)
    assert warned
    assert as_severe_as(limit, replace(sick(), findings=warned)) == fails
    assert as_severe_as(limit, sick()) == (limit != "nothing")


def test_what_is_wrong_is_news_once() -> None:
    healthy, ill = snapshot(lock()), sick()
    assert is_news(healthy, ill)
    assert is_news(ill, healthy)
    assert not is_news(ill, replace(ill, taken_at=ill.taken_at + 1))
    assert is_news(healthy, replace(healthy, alive=False))
    over = replace(healthy, findings=tuple(replace(finding, over_s=1.0) for finding in ill.findings))
    assert is_news(healthy, over)
    assert not is_news(over, healthy)
