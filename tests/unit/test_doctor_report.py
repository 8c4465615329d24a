"""What `semtrace doctor` prints of a diagnosis."""

from __future__ import annotations

import json
from dataclasses import replace

from sick import found, lock, pid, processes, snapshot, thread_lock, waiter

from semtrace.model import SEM_VALUE_MAX, LeakedName, Problem, SharedMemory, Snapshot
from semtrace.reports.doctor import doctor_json, doctor_text
from semtrace.rules import findings


def sick() -> Snapshot:
    orphan = lock(state="orphaned", reason="locked in 40 readings", waiters=(waiter(12, 75.0),))
    return replace(snapshot(orphan), findings=found(orphan, thread_locks=(thread_lock(),)))


def blind(*numbers: int) -> tuple[Problem, ...]:
    return tuple(Problem("read its memory", "Permission denied", "sudo semtrace", pid(number)) for number in numbers)


def test_a_title_the_evidence_the_remedy_and_an_empty_line() -> None:
    lines = list(doctor_text(sick(), 30))
    assert lines[0] == "ERROR  app.lock is locked for ever: whoever held it has ended  [orphaned-lock]"
    assert lines[1] == "    - locked in 40 readings"
    second = lines.index("")
    assert "      semtrace release 10 app.lock" in lines[:second]
    assert lines[second + 1].startswith("WARNING  app.guard is a threading.Lock")
    assert max(map(len, lines)) <= 110


def test_a_command_stands_alone_and_is_never_broken() -> None:
    command = "semtrace release 10 'app.registry['\"'\"'a very long key with blanks in it'\"'\"']' --audit /r.log"
    remedies = (
        f"Look first.\n{command}\nIt is done then.",
        f"Look first.\nsudo {command}",
        f"{command}\nIt is done then.",
    )
    for remedy in remedies:
        one = replace(sick().findings[0], remedy=remedy, evidence=())
        lines = list(doctor_text(replace(sick(), findings=(one,)), 30, width=40))
        (whole,) = [line for line in lines if command in line]
        assert whole.strip().removeprefix("sudo ") == command
        assert whole.startswith("      s")
        assert all(line.startswith("    > ") for line in lines[1:] if line != whole)


def test_prose_that_only_speaks_of_a_command_is_wrapped() -> None:
    one = replace(sick().findings[0], remedy="See what semtrace dump says. " * 5, evidence=())
    lines = list(doctor_text(replace(sick(), findings=(one,)), 30, width=60))
    assert len(lines) > 2
    assert max(map(len, lines[1:])) <= 60
    assert lines[1].startswith("    > See what semtrace")


def test_colour_only_where_it_is_wanted() -> None:
    assert not any("\x1b" in line for line in doctor_text(sick(), 30))
    assert next(doctor_text(sick(), 30, colour=True)).startswith("\x1b[1;31mERROR\x1b[0m  app.lock")


def test_nothing_wrong_says_what_was_looked_at() -> None:
    (line,) = doctor_text(snapshot(lock(), thread_locks=(thread_lock(),)), 30)
    assert line == (
        "Nothing wrong was seen in 30 looks over 20s at gunicorn: master [app] (PID 10): 4 processes, 1 lock (1 free) "
        "and 1 private lock."
    )


def test_what_lies_in_dev_shm_does_not_keep_it_from_saying_that_the_locks_are_well() -> None:
    left = LeakedName(lock().id, "/mp-left", 3600.0, "root")
    picture = snapshot(lock(), shared_memory=SharedMemory(1 << 30, 1 << 29, (left,)))
    lines = list(doctor_text(replace(picture, findings=findings(picture)), 30))
    assert lines[0].endswith("[leaked-name]")
    assert lines[-2] == ""
    assert lines[-1].startswith("Nothing else wrong was seen in 30 looks over 20s at gunicorn: master [app] (PID 10): ")
    assert lines[-1].endswith(" 1 lock (1 free).")
    assert not any("was seen in" in line for line in doctor_text(sick(), 30))


def test_of_dev_shm_no_more_is_claimed_than_could_be_asked() -> None:
    unasked = snapshot(lock(), shared_memory=SharedMemory(100, 50))
    asked = replace(unasked, shared_memory=SharedMemory(100, 50, ()))
    doubtful = replace(asked, problems=(Problem("ask who maps 3 names in /dev/shm", "no lease", "look as root"),))
    told = [next(iter(doctor_text(each, 30))) for each in (unasked, asked, doubtful)]
    assert [line.partition("1 lock (1 free)")[2] for line in told] == [
        ".",
        ", and /dev/shm.",
        ", and what could be asked of /dev/shm.",
    ]


def test_waiting_that_cannot_be_judged_is_told_with_nothing_wrong() -> None:
    empty = lock("app.permit", kind="Semaphore", maximum=SEM_VALUE_MAX, state="exhausted", waiters=(waiter(12),))
    (line,) = doctor_text(snapshot(empty), 30)
    assert line.startswith("Nothing wrong was seen")
    assert "1 thread waits for 1 Semaphore without a unit left (app.permit) semtrace cannot tell" in line
    (line,) = doctor_text(snapshot(replace(empty, waiters=())), 30)
    assert "cannot tell" not in line


def test_a_lock_for_which_threads_wait_and_that_nobody_is_known_to_have_is_told_with_nothing_wrong() -> None:
    taken = lock("app.lock", state="unknown", value=0, reason="PID 7 maps it too", waiters=(waiter(12, 5.0),))
    (line,) = doctor_text(snapshot(taken), 30)
    assert line.endswith(" Who has app.lock is not known: PID 7 maps it too.")
    (line,) = doctor_text(snapshot(replace(taken, waiters=())), 30)
    assert "not known" not in line


def test_unread_private_locks_come_before_any_verdict() -> None:
    unread = Problem("look", "no layout for CPython 3.16", "none", unread="private-locks")
    first = next(doctor_text(snapshot(lock(), problems=(unread,)), 30))
    assert first.startswith(
        "The private locks (threading, asyncio), and deadlocks through them, were not looked at: no "
    )
    assert "CPython 3.16. Of the shared locks, nothing wrong was seen in 30 looks" in first


def test_what_could_not_be_read_is_never_called_healthy() -> None:
    some = next(doctor_text(snapshot(lock(), problems=blind(12)), 30))
    assert some.endswith("1 process of these could not be read.")
    everyone = [process.pid for process in processes()]
    lines = list(doctor_text(snapshot(problems=blind(*everyone)), 30))
    assert lines[0] == "Nothing can be said: not one process of gunicorn: master [app] can be read."
    assert "PROBLEMS" in lines


def test_the_json_has_the_keys_of_the_contract() -> None:
    told = json.loads(json.dumps(doctor_json(sick())))
    assert {"schema", "taken_at", "server", "findings", "problems"} <= told.keys()
    assert told["findings"][0].keys() >= {"code", "severity", "lock", "pids", "title", "evidence", "remedy"}
    assert told["findings"][0]["lock"] == "0:27:1"
    assert told["findings"][1]["lock"] is None
