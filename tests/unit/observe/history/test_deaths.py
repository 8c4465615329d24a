"""Death certificates: how a process ended, also where it is nobody's child that we know."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support import start_ticks, wait_until
from support.snapshots import SERVER, frames, holder, lock, pid, snapshot, waiter, worker

from semtrace.linux import pidfd
from semtrace.linux.pidfd import Pidfd
from semtrace.model import Death, DeathCause, HeldAtDeath, ProcessId, place_of
from semtrace.observe.history.deaths import Deaths, cause_of
from semtrace.present.deaths import certificate, death_text
from semtrace.reports.dump import report
from semtrace.reports.schema import snapshot_json
from semtrace.tui.text.entries import process_entries
from semtrace.tui.text.lock_entries import lock_entries
from semtrace.tui.text.log_rows import event_rows

# A grandchild: its parent reaps it, as gunicorn does.
PARENT = "import subprocess, sys; p = subprocess.Popen(['cat']); print(p.pid, flush=True); p.wait(); sys.stdin.read()"


@pytest.fixture
def grandchild() -> Iterator[ProcessId]:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        number = int(parent.stdout.readline())
        yield ProcessId(number, start_ticks(number) or 0)
        parent.kill()


def knows_exit_codes() -> bool:
    child = os.fork()
    if not child:
        os._exit(3)
    fd = Pidfd.__new__(Pidfd)
    fd.fd = os.pidfd_open(child)
    os.waitpid(child, 0)
    try:
        return fd.exit_code() == 3
    finally:
        fd.close()


def test_a_killed_process_has_its_signal_and_what_it_held(grandchild: ProcessId) -> None:
    deaths, now = Deaths(), 100.0
    assert deaths.update(now, SERVER, {grandchild: ("worker", 77)}) == ()
    held = holder(11, process=grandchild, tid=7, stack=frames(("/srv/app.py", "pay")))
    deaths.note(snapshot(lock(holders=(held,))))
    assert deaths.update(now, SERVER, {grandchild: ("worker", 77)}) == ()
    (fd,) = deaths.fds
    os.kill(grandchild.pid, signal.SIGKILL)
    wait_until(lambda: start_ticks(grandchild.pid) is None, what="the parent to notice")
    (death,) = deaths.update(now + 1, SERVER, {})
    assert death.parent == 77
    known = knows_exit_codes()
    assert (death.exit_code, death.cause) == ((-9, DeathCause.SIGNAL) if known else (None, DeathCause.UNKNOWN))
    assert death.held == (HeldAtDeath(lock().id, "app.lock", 7, place_of(held)),)
    assert deaths.update(now + 3, SERVER, {})[0].ended_s == 2.0
    assert deaths.fds == []
    deaths.close()
    if known:
        with pytest.raises(OSError):  # noqa: PT011
            os.fstat(fd)


def test_a_process_that_became_another_program_is_not_dead(grandchild: ProcessId) -> None:
    deaths = Deaths()
    deaths.update(1.0, SERVER, {grandchild: ("worker", 77)})
    assert deaths.update(2.0, SERVER, {}) == ()
    deaths.close()


@pytest.mark.parametrize("groups", ["", "2:memory:/\n1:name=systemd:/init.scope\n", "0::\n0"])
def test_machine_without_cgroup_v2_has_no_count_of_kills(groups: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pidfd, "open", lambda path, **_: io.StringIO(groups if "cgroup" in path else ""), raising=False)
    assert pidfd.out_of_memory_kills(os.getpid()) is None


def test_a_reused_pid_is_not_watched() -> None:
    deaths = Deaths()
    deaths.update(1.0, SERVER, {ProcessId(os.getpid(), 1): ("worker", 1), pid(2**22 + 1): ("worker", 1)})
    assert deaths.fds == []


@pytest.mark.parametrize(
    ("code", "silent_s", "short", "cause"),
    [
        (None, None, False, DeathCause.UNKNOWN),
        (None, 40.0, True, DeathCause.UNKNOWN),
        (None, 40.0, False, DeathCause.TIMEOUT),
        (0, 29.5, False, DeathCause.TIMEOUT),
        (0, 26.0, False, DeathCause.UNKNOWN),
        (-9, 26.0, False, DeathCause.UNKNOWN),
        (-11, 26.0, False, DeathCause.SIGNAL),
        (0, 24.0, False, DeathCause.EXIT),
        (0, 1.0, False, DeathCause.EXIT),
        (1, 1.0, False, DeathCause.EXIT),
        (1, 29.5, False, DeathCause.TIMEOUT),
        (-9, 29.5, False, DeathCause.TIMEOUT),
        (-6, 31.0, False, DeathCause.TIMEOUT),
        (-9, 31.0, True, DeathCause.MEMORY),
        (-9, None, False, DeathCause.SIGNAL),
        (-9, 5.0, False, DeathCause.SIGNAL),
        (-15, 40.0, False, DeathCause.SIGNAL),
    ],
)
def test_a_cause_is_named_only_on_evidence(
    code: int | None, silent_s: float | None, short: bool, cause: DeathCause
) -> None:
    assert cause_of(code, silent_s, 5.0, 30.0, short) is cause


def test_silence_is_counted_from_the_last_heartbeat_that_was_seen(grandchild: ProcessId) -> None:
    """A worker that is about to end has closed the file of its heartbeats."""
    deaths = Deaths()
    deaths.update(100.0, SERVER, {grandchild: ("worker", 77)})
    for heartbeat_s, at_s in ((27.0, 100.0), (None, 102.0)):
        member = worker(11, id=grandchild, last_heartbeat_s=heartbeat_s)
        deaths.note(replace(snapshot(processes=(member,)), monotonic_s=at_s))
    os.kill(grandchild.pid, signal.SIGKILL)
    wait_until(lambda: start_ticks(grandchild.pid) is None, what="the parent to notice")
    (death,) = deaths.update(102.5, SERVER, {})
    deaths.close()
    assert death.silent_s == 29.0


def test_the_text_names_signals_and_codes() -> None:
    death = Death(pid(11), "worker", DeathCause.SIGNAL, -11, 0.0)
    assert death_text(death.cause, death.exit_code) == "was killed by SIGSEGV"
    assert death_text(DeathCause.SIGNAL, -99) == "was killed by signal 99"
    assert death_text(DeathCause.EXIT, 3) == "exited with 3"
    assert death_text(DeathCause.UNKNOWN, None) == "ended; how is unknown"
    perhaps = "was killed by SIGKILL, perhaps because of gunicorn's --timeout"
    assert death_text(DeathCause.UNKNOWN, -9) == perhaps


def test_a_certificate_says_who_has_been_stuck_since() -> None:
    held = lock(state="orphaned", reason="x", waiters=(waiter(12, 3.0), waiter(13, 2.0)))
    death = Death(pid(11), "worker", DeathCause.SIGNAL, -9, 4.0, (HeldAtDeath(held.id, "app.lock"),))
    picture = replace(snapshot(held), deaths=(death,))
    assert certificate(death, picture) == "was killed by SIGKILL; 2 threads stuck since: app.lock"
    (told,) = snapshot_json(picture)["deaths"]
    assert [(each["pid"], each["lock"], each["for_s"]) for each in told["stuck"]] == [
        (12, str(held.id), 3.0),
        (13, str(held.id), 2.0),
    ]
    assert any("2 threads stuck since: app.lock" in line for line in report(picture))


def test_nobody_is_stuck_behind_a_death_without_an_orphaned_lock() -> None:
    held = lock(holders=(holder(14, 1.0),), waiters=(waiter(12, 3.0),))
    death = Death(pid(11), "worker", DeathCause.SIGNAL, -9, 4.0, (HeldAtDeath(held.id, "app.lock"),))
    assert certificate(death, snapshot(held)) == "was killed by SIGKILL"


def test_sheets_and_events_of_the_live_view_have_the_certificate() -> None:
    orphan = lock(state="orphaned", reason="x", waiters=(waiter(12, 3.0),))
    death = Death(pid(11), "worker", DeathCause.SIGNAL, -9, 4.0, (HeldAtDeath(orphan.id, "app.lock"),))
    other = replace(death, id=pid(14), held=())
    picture = replace(snapshot(orphan), deaths=(other, death))
    texts = [entry.value for entry in lock_entries(orphan, picture) if entry.label == "died with it"]
    assert texts == ["11 was killed by SIGKILL; 1 thread stuck since: app.lock, 4.0s ago"]
    (row,) = event_rows(replace(picture, deaths=(death,)))
    assert [cell.text for cell in row.cells][1:4] == ["11", "died", "app.lock"]
    master = replace(worker(SERVER.pid), id=SERVER.id, role="master")
    labels = [entry.label for entry in process_entries(master, picture)]
    assert "deaths" in labels
