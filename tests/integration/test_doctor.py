"""`semtrace doctor` on a real gunicorn: each scenario of the demo gives its finding, a healthy server gives none."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from support import Running, alive, child_pids, start, start_gunicorn, until_released, wait_until
from support.targets import target

from demo_app.bank import Bank, State
from demo_app.load import Customers, get
from demo_app.scenarios import BOTH_WAYS, SCENARIOS, embraced, waits_inside
from demo_app.server import CLONE, Server, serve
from semtrace.model import Finding, LastSeen, Lock, LockedInParent, LockedSinceFork, Snapshot
from semtrace.observe.observer import Observer, settle
from semtrace.rules import Limits
from semtrace.servers.discovery import server_of
from semtrace.text import is_command

WORKERS = 3
both = pytest.mark.parametrize("traced", [False, True], ids=["bare", "traced"])
# For a loaded machine, which lets few looks be taken: several inside at once have to be seen, and the proof of an
# orphan begins anew when gunicorn has killed those who wait for it.
CALMER: dict[str, Any] = {
    "leak": {"timeout_s": 10},
    "threading": {"hold_s": (1.0, 1.5), "pause_s": (0.1, 0.2)},
    "no-preload": {"hold_s": (1.0, 1.5), "pause_s": (0.1, 0.2)},
}
MOMENT_S = 120.0
DOCTOR_S = 120.0


@dataclass
class Play:
    """A running scenario. Its customers come when they are let in."""

    server: Server
    bank: Bank
    customers: Customers

    def until(self, when: Callable[[State], bool], what: str) -> None:
        wait_until(lambda: when(self.bank.look()), MOMENT_S, what)


@contextmanager
def playing(name: str, workers: int = WORKERS, traced: bool = False) -> Iterator[Play]:
    scenario = SCENARIOS[name]
    scenario = replace(scenario, traced=traced or scenario.traced, **CALMER.get(name, {}))
    with tempfile.TemporaryDirectory(prefix="semtrace-doctor-", ignore_cleanup_errors=True) as folder:
        bank = Bank.in_folder(Path(folder))
        with serve(scenario, workers, Path(folder)) as server:
            customers = Customers(
                server.port, min(workers, scenario.customers), scenario.page, scenario.hold_s, scenario.pause_s
            )
            try:
                yield Play(server, bank, customers)
            finally:
                customers.stop()


def semtrace(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "semtrace", *arguments],
        capture_output=True,
        text=True,
        timeout=DOCTOR_S,
        env=os.environ | (env or {}),
    )


def doctor(pid: int, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and what was found apart from infos and what others left in /dev/shm."""
    done = semtrace("doctor", str(pid), "--json", *arguments)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert (told["schema"], told["server"]["pid"], problems(told)) == (1, pid, [])
    elsewhere = ("leaked-name", "shm-full")
    return done.returncode, [f for f in told["findings"] if f["severity"] != "info" and f["code"] not in elsewhere]


def problems(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Those with the server itself: what lies in /dev/shm is others' too."""
    return [problem for problem in told["problems"] if "/dev/shm" not in problem["what"]]


def begin_deadlock(play: Play) -> None:
    for page in BOTH_WAYS:
        play.customers.ask(page)
    play.until(embraced, "two that wait for each other")


def begin_order(play: Play) -> None:
    play.customers.start()
    play.until(lambda now: now.payments > 4, "some that were served")


def begin_reentry(play: Play) -> None:
    play.customers.ask("/correct")
    play.until(waits_inside, "one that waits for itself")


def begin_leak(play: Play) -> None:
    """The report goes first, so that it gets the lock."""
    play.customers.ask("/report")
    play.until(lambda now: now.reporter is not None, "the report")
    play.customers.start()
    play.until(lambda now: now.reporter not in now.inside and len(now.waiting) > 1, "gunicorn to kill its worker")


def begin_crowd(play: Play) -> None:
    play.customers.start()
    play.until(lambda now: len(now.inside) > 1, "two inside")


def begin_inherited(play: Play) -> None:
    play.customers.start()
    play.until(lambda now: len(now.waiting) >= WORKERS - 1, "all but one to wait")


def begin_overrelease(play: Play) -> None:
    play.customers.start()
    play.until(lambda now: now.payments > 2 * WORKERS and now.most_inside > 1, "one that could not wait")


def begin_queue(play: Play) -> None:
    play.customers.start()
    play.until(lambda now: len(now.waiting) >= WORKERS - 1 and now.payments > 0, "a queue")


SICK = {
    "deadlock": (begin_deadlock, "deadlock", 3),
    "reentry": (begin_reentry, "deadlock", 3),
    "leak": (begin_leak, "orphaned-lock", 3),
    "threading": (begin_crowd, "private-lock", 3),
    "no-preload": (begin_crowd, "unshared-lock", 3),
    "inherited": (begin_inherited, "inherited-hold", 0),
    "overrelease": (begin_overrelease, "over-release", 0),
}


@pytest.mark.slow
@both
@pytest.mark.parametrize("name", SICK)
def test_each_scenario_gives_its_finding_and_no_other(name: str, traced: bool) -> None:
    begin, code, exit_code = SICK[name]
    with playing(name, traced=traced) as play:
        begin(play)
        # What comes and goes is seen in few of the looks on a busy machine.
        returned, found = doctor(play.server.pid, *(("--for", "4") if name == "overrelease" else ()))
        for _ in range(4):
            if not found:
                returned, found = doctor(play.server.pid, "--for", "4")
        assert [finding["code"] for finding in found] == [code], found
        assert returned == exit_code
        assert found[0]["name"] in ("demo_app.app.lock", "demo_app.mistakes.savings_lock")
        assert all(found[0][key] for key in ("title", "evidence", "remedy"))
        if traced and name in ("deadlock", "reentry"):
            _names_the_lines_that_acquire(found[0], "mistakes" if name == "deadlock" else "app")
        if traced and name == "leak":
            _names_the_line_where_it_died(found[0], play.bank.look().reporter)


def _names_the_lines_that_acquire(finding: dict[str, Any], file: str) -> None:
    chain = [line for line in finding["evidence"] if " holds " in line]
    assert len(chain) == len(set(finding["pids"]))
    assert all(f", at {CLONE}/demo_app/{file}.py:" in line for line in chain)


def _names_the_line_where_it_died(finding: dict[str, Any], reporter: int | None) -> None:
    assert reporter is not None
    (died,) = (line for line in finding["evidence"] if "died holding it" in line)
    assert f"PID {reporter} died holding it, acquired " in died
    assert any(
        line.startswith((f"PID {reporter} was last seen alive ", f"PID {reporter} had already ended when semtrace"))
        for line in finding["evidence"]
    )
    assert any("gunicorn's log" in line or "gunicorn most likely" in line for line in finding["evidence"])
    assert not any("so it had let go" in line for line in finding["evidence"])
    assert "/demo_app/app.py:" in died


@pytest.mark.slow
def test_two_orders_are_found_before_they_meet_with_both_lines() -> None:
    with playing("order") as play:
        begin_order(play)
        code, (finding,) = doctor(play.server.pid, "--for", "4")
        assert (code, finding["code"], finding["severity"]) == (0, "lock-order", "warning")
        assert set(finding["pids"]) < set(child_pids(play.server.pid))
        assert len(finding["pids"]) == 2
        for line in finding["evidence"]:
            assert "demo_app.app.lock at " in line
            assert "demo_app.mistakes.savings_lock at " in line
            assert line.count("/demo_app/mistakes.py:") == 2


@contextmanager
def asked(port: int, customers: int, *pages: str) -> Iterator[None]:
    """So many ask for these pages, one after the other, again and again."""
    stopped = threading.Event()

    def ask() -> None:
        for page in itertools.cycle(pages):
            if stopped.is_set():
                return
            get(port, page)

    threads = [threading.Thread(target=ask) for _ in range(customers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(("customers", "pages", "codes"), [
    (1, ("/there", "/back"), ["lock-order"]),
    (4, ("/there",), []),
    (4, ("/gated/there", "/gated/back"), []),
])  # fmt: skip
def test_the_orders_of_a_server_that_semtrace_runs(customers: int, pages: tuple[str, ...], codes: list[str]) -> None:
    command = [sys.executable, "-m", "semtrace", "run", "--headless", "--", sys.executable, "-m", "gunicorn"]
    with start_gunicorn("two_locks:app", "-w", "2", "--preload", "--no-control-socket", command=command) as server:
        server.wait_workers(2)
        with asked(server.port, customers, *pages):
            returned, found = doctor(server.pid, "--for", "3")
        assert (returned, [finding["code"] for finding in found]) == (0, codes), found
        dumped = json.loads(semtrace("dump", "--json", str(server.pid)).stdout)
        assert [lock["name"] for lock in dumped["thread_locks"] if lock["name"].startswith("semtrace.")] == []  # ours


@pytest.mark.slow
@both
@pytest.mark.parametrize("name", ["shared", "convoy"])
def test_a_lock_that_works_gives_no_more_than_an_info(name: str, traced: bool) -> None:
    with playing(name, traced=traced) as play:
        begin_queue(play)
        assert doctor(play.server.pid) == (0, [])
        done = semtrace("doctor", str(play.server.pid), "--for", "3")
        assert done.returncode == 0
        if name == "convoy":
            (line,) = (line for line in done.stdout.splitlines() if line.endswith("[contention]"))
            assert line.startswith("NOTE  demo_app.app.lock had ")


@pytest.mark.slow
def test_commands_that_doctor_prints_unblock_the_stuck_requests() -> None:
    with playing("leak") as play:
        begin_leak(play)
        done = semtrace("doctor", str(play.server.pid))
        assert done.returncode == 3
        lines = done.stdout.splitlines()
        assert lines[0].startswith("ORPHANED: ")
        first = next(at for at, line in enumerate(lines) if line.startswith("ERROR  "))
        said = " ".join(" ".join(lines[first : first + 2]).split())  # the title may take two lines
        assert "ERROR demo_app.app.lock is orphaned: the process that held it died [orphaned-lock]" in said
        assert f"      semtrace release {play.server.pid} demo_app.app.lock" in lines
        assert all(line.startswith(("    ", "WARNING", "NOTE")) for line in lines[first + 1 :] if line)
        if os.geteuid() != 0:
            return  # to release an unlinked semaphore takes the right to open map_files
        _, (finding,) = doctor(play.server.pid)
        paid = play.bank.look().payments
        (command,) = (line for line in finding["remedy"].splitlines() if is_command(line))
        program, *arguments = shlex.split(command)
        assert program == "semtrace"

        def served() -> bool:
            return play.bank.look().payments > paid + WORKERS

        def orphaned() -> bool:
            return "orphaned-lock" in [each["code"] for each in doctor(play.server.pid)[1]]

        # gunicorn kills a worker that has waited for four seconds, also right after the lock has come to it.
        while not served():
            until_released(lambda: semtrace(*arguments, "--yes"))
            wait_until(lambda: served() or orphaned(), what="the customers to be served")
        assert doctor(play.server.pid) == (0, [])


@pytest.mark.slow
def test_the_stack_is_in_the_evidence_and_in_the_dump() -> None:
    with playing("reentry") as play:
        begin_reentry(play)
        _, (finding,) = doctor(play.server.pid)
        assert "/demo_app/app.py:" in finding["evidence"][0]
        assert " in alone (called by " in finding["evidence"][0]
        assert "/demo_app/app.py:" in finding["threads"][0]["place"]
        dumped = json.loads(semtrace("dump", str(play.server.pid), "--json", "--stacks").stdout)
        (lock,) = (lock for lock in dumped["locks"] if lock["name"] == "demo_app.app.lock")
        (waiting,) = lock["waiters"]
        mine = [frame for frame in waiting["stack"] if "/demo_app/" in frame["file"]]
        assert [frame["function"] for frame in mine] == ["alone", "correct", "app"]
        assert mine[0]["source"] == "with lock:"
        assert "with lock:" in semtrace("dump", str(play.server.pid), "--stacks").stdout


def test_nothing_wrong_says_what_was_checked_and_what_was_not() -> None:
    with start_gunicorn("hello:app", "-w", "2", "--preload") as server:
        server.wait_workers(2)
        done = semtrace("doctor", str(server.pid), "--for", "0.3")
        assert (done.returncode, done.stderr) == (0, "")
        assert re.match(r"OK: 2 workers, .*\n\nNothing wrong was seen in ", done.stdout), done.stdout
        assert "3 processes, 0 shared locks" in done.stdout
        assert "\nNot checked:\n" in done.stdout


def test_doctor_needs_no_py_spy() -> None:
    with target() as t:
        t.fork("a")
        t.do("a", "lock.acquire()")
        t.block("a", "lock")
        # A Python beside which there is no py-spy: through a link in a folder of its own.
        with tempfile.TemporaryDirectory() as folder:
            code = "import sys; sys.executable = '/nowhere/python'; from semtrace.cli import main; sys.exit(main())"
            done = subprocess.run(
                [sys.executable, "-c", code, "doctor", str(t.root), "--json"],
                capture_output=True,
                text=True,
                env=os.environ | {"PATH": folder},
                timeout=DOCTOR_S,
            )
        told = json.loads(done.stdout)
        assert [finding["code"] for finding in told["findings"] if finding["code"] != "leaked-name"] == ["deadlock"]
        assert not problems(told)


def test_cycle_of_two_processes_is_a_deadlock_unless_with_timeout() -> None:
    with target(made="first, second = mp.Lock(), mp.Lock()") as t:
        t.fork("a", "b")
        t.do("a", "first.acquire()")
        t.do("b", "second.acquire()")
        t.block("a", "second", "True", "60")
        t.block("b", "first")
        assert doctor(t.root) == (0, [])
        with target(made="first, second = mp.Lock(), mp.Lock()") as t2:
            t2.fork("a", "b")
            t2.do("a", "first.acquire()")
            t2.do("b", "second.acquire()")
            t2.block("a", "second")
            t2.block("b", "first")
            code, (finding,) = doctor(t2.root)
            assert (code, finding["code"]) == (3, "deadlock")
            assert finding["pids"] == sorted([t2.pids["a"], t2.pids["b"]])


def test_a_gate_that_a_child_opens_later_is_no_error() -> None:
    """It is taken, a child is started that will release it, and it is taken again: to wait for the child."""
    with target(made="gate = mp.Lock()") as t:
        t.do("p", "gate.acquire()")
        t.start("fork", "a", "gate")
        t.block("p", "gate")
        code, (finding,) = doctor(t.root)
        assert (code, finding["code"], finding["severity"]) == (0, "deadlock", "warning")
        assert any(f"PID {t.pids['a']} could release it" in line for line in finding["evidence"])
        t.do("a", "gate.release()")
        t.done("p")


def test_a_ring_of_batons_is_no_error() -> None:
    """Each takes its own and gives the next one's: in the first round nobody has been seen to do so yet."""
    with target(made="batons = [mp.Lock() for _ in range(3)]; batons[1].acquire(); batons[2].acquire()") as t:
        for name in "abc":
            t.start("fork", name, "batons")
        t.do("a", "batons[0].acquire()")
        t.do("a", "batons[1].release()")
        t.block("a", "batons[0]")
        t.do("b", "batons[1].acquire()")
        t.block("c", "batons[2]")
        code, found = doctor(t.root)
        assert code == 0, found
        assert not [finding for finding in found if finding["severity"] == "error"]


PRELOADED = """
import os
import threading

guard = threading.Lock()
taken, over = threading.Event(), threading.Event()
forks = []

def count():
    forks.append(1)
    if len(forks) == 3 and not os.environ.get("KEPT"):
        over.set()

def keep_house():
    with guard:
        taken.set()
        over.wait()

os.register_at_fork(after_in_parent=count)
threading.Thread(target=keep_house, daemon=True).start()
taken.wait()

def app(environ, start_response):
    if environ["PATH_INFO"] == "/guarded":
        guard.acquire()
    start_response("200 OK", [])
    return [b"x"]
"""


def test_threading_lock_that_the_master_holds_while_forking_is_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", "1")
    with housed(tmp_path) as server:
        code, (finding,) = doctor(server.pid, "--for", "4")
        assert (code, finding["code"], finding["severity"]) == (0, "inherited-hold", "warning")
        assert (finding["name"], finding["pids"]) == ("housed.guard", sorted(server.workers()))
        with waiting_for_guard(server) as observer:
            # The parent's copy is read for some samples before it is evidence.
            wait_until(lambda: (found := _stuck(observer.snapshot())) and found.fact(LockedInParent), what="the cause")


def test_threading_lock_that_the_master_released_has_no_known_cause(tmp_path: Path) -> None:
    """A worker may as well have taken it and not released it: nobody has seen."""
    with housed(tmp_path) as server:
        with contextlib.closing(Observer(server_of(server.pid))) as observer:
            wait_until(lambda: _is_free(observer.snapshot(), server.pid), what="the master to let go")
        assert doctor(server.pid) == (0, [])
        with waiting_for_guard(server) as observer:
            found = wait_until(lambda: _stuck(observer.snapshot()), what="the verdict")
            assert found.fact(LockedInParent) is None
            assert found.fact(LockedSinceFork) is None


@contextmanager
def housed(folder: Path) -> Iterator[Running]:
    (folder / "housed.py").write_text(PRELOADED)
    with start_gunicorn(
        "housed:app", "-w", "3", "--preload", "--no-control-socket", "--pythonpath", str(folder)
    ) as server:
        server.wait_workers(3)
        yield server


@contextmanager
def waiting_for_guard(server: Running) -> Iterator[Observer]:
    with server.connect() as connection, contextlib.closing(Observer(server_of(server.pid))) as observer:
        connection.sendall(b"GET /guarded HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: _waits(observer.snapshot()), what="the request to wait")
        yield observer


def _stuck(snapshot: Snapshot) -> Finding | None:
    return next((finding for finding in snapshot.findings if finding.code == "stuck"), None)


FOR_CHILDREN = """
import multiprocessing as mp, sys

ctx = mp.get_context("fork")
done, meeting = ctx.Event(), ctx.Barrier(2)
history = []

def work(lock, counter):
    with lock, counter:
        counter.value += 1

class Job:
    def __init__(self):
        self.lock, self.counter = ctx.Lock(), ctx.Value("i", 0)
        process = ctx.Process(target=work, args=(self.lock, self.counter))
        process.start()
        process.join()

for _ in range(3):
    history.append(Job())
print("LOADED", file=sys.stderr, flush=True)

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"x"]
"""


def test_locks_of_ended_children_are_warnings_and_events_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(FOR_CHILDREN)
    with start_gunicorn("jobs:app", "-w", "2", "--no-control-socket", "--pythonpath", str(tmp_path)) as server:
        wait_until(lambda: server.output().count("LOADED") == 2, what="both workers to have loaded it")
        code, found = doctor(server.pid)
        assert {finding["code"] for finding in found} == {"unshared-lock"}, found
        assert (code, {finding["severity"] for finding in found}) == (0, {"warning"})
        assert sorted(finding["name"] for finding in found) == [
            "jobs.done", "jobs.history[…].counter", "jobs.history[…].lock", "jobs.meeting",
        ]  # fmt: skip


def _is_free(snapshot: Snapshot, pid: int) -> bool:
    return any(use.process.pid == pid and not use.locked for lock in snapshot.thread_locks for use in lock.processes)


def _waits(snapshot: Snapshot) -> bool:
    return any(use.waiters for lock in snapshot.thread_locks for use in lock.processes)


def test_the_holder_that_was_seen_is_named_when_it_dies() -> None:
    with target() as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.block("b", "lock")
        observer = Observer(server_of(t.root))
        try:
            settle(observer)
            time.sleep(0.05)
            assert observer.snapshot().locks[0].holders[0].pid == t.pids["a"]
            t.kill("a", signal.SIGKILL)
            snapshot = wait_until(
                lambda: s if (s := observer.snapshot()).locks[0].state == "orphaned" else None, what="the proof"
            )
            last = snapshot.locks[0].last_holder
            assert last is not None
            assert (last.pid, last.tid) == (t.pids["a"], t.tids["a"])
            assert last.ended_s is not None
            (finding,) = snapshot.findings
            seen = finding.fact(LastSeen)
            assert seen is not None
            assert seen.thread.pid == t.pids["a"]
        finally:
            observer.close()


def test_a_long_hold_is_found_by_watching_longer() -> None:
    with target() as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.block("b", "lock")
        code, (finding,) = doctor(t.root, "--for", "4", "--long", "1")
        assert (code, finding["code"], finding["pids"]) == (0, "long-hold", [t.pids["a"]])


BUSY = """
import multiprocessing as mp, os, time
lock = mp.get_context("fork").Lock()  # the default start method of Python 3.14 would begin a resource tracker
held = {held}
if held:
    lock.acquire()
for _ in range(3):
    if os.fork() == 0:
        while os.getppid() != 1:
            with lock:
                time.sleep(0.002)
if held:
    lock.release()
print("READY", flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize(("held", "codes"), [(True, ["inherited-hold"]), (False, [])])
def test_inherited_counts_are_found_on_a_lock_in_constant_use(held: bool, codes: list[str]) -> None:
    with start(sys.executable, "-c", BUSY.format(held=held)) as (popen, log):
        wait_until(lambda: "READY" in log.read_text(), what="the children")
        code, found = doctor(popen.pid, "--for", "5")
        assert (code, [finding["code"] for finding in found]) == (0, codes), found
        assert all(finding["pids"] == sorted(child_pids(popen.pid)) for finding in found)


HELD_AT_FORK = """
import os, threading, time
guard = threading.Lock()
def keep():
    with guard:
        held.set()
        time.sleep(1)
held = threading.Event()
threading.Thread(target=keep).start()
held.wait()
if os.fork() == 0:
    with guard:
        pass
print("READY", flush=True)
time.sleep(100)
"""


def test_threading_lock_held_while_a_script_forked_is_stuck() -> None:
    with start(sys.executable, "-c", HELD_AT_FORK) as (popen, log):
        wait_until(lambda: "READY" in log.read_text(), what="the parent")
        code, (finding,) = doctor(popen.pid, "--for", "3")
        (child,) = child_pids(popen.pid)
        assert (code, finding["code"], finding["name"], finding["pids"]) == (
            3,
            "stuck",
            "__main__.guard",
            [child],
        )


SLOTS = """
import multiprocessing as mp, os, threading, time
slots = mp.BoundedSemaphore(4)
def use(nap):
    while os.getppid() != 1:
        with slots:
            if nap:
                time.sleep(nap)
            else:
                sum(range(2000))
for i in range(3):
    if os.fork() == 0:
        for nap in (0.0, 0.001, 0.01):
            threading.Thread(target=use, args=(nap,)).start()
        use(0.002)
print("READY", flush=True)
time.sleep(100)
"""


def test_no_unit_is_lost_of_a_semaphore_that_all_use() -> None:
    with start(sys.executable, "-c", SLOTS) as (popen, log):
        wait_until(lambda: "READY" in log.read_text(), what="the children")
        with contextlib.closing(Observer(server_of(popen.pid))) as observer:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                snapshot = observer.snapshot()
                assert not any(lock.lost and lock.lost.proved for lock in snapshot.locks), snapshot.locks
                assert not [finding for finding in snapshot.findings if finding.severity != "note"]
                time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/sched").exists(), reason="this kernel has no /proc/PID/sched")
def test_first_snapshot_shows_how_long_a_server_has_hung() -> None:
    """The scheduler knows since when a thread has slept; nobody had to watch."""
    began = time.monotonic()
    with target() as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.block("b", "lock")

        def first_look() -> Lock:
            with contextlib.closing(Observer(server_of(t.root))) as observer:
                return observer.snapshot().locks[0]

        def is_seen(lock: Lock) -> Lock | None:  # on a loaded machine not every first look finds the holder
            return lock if lock.holders and any((waiter.for_s or 0.0) > 1.5 for waiter in lock.waiters) else None

        lock = wait_until(lambda: is_seen(first_look()), what="a second and a half of it")
        assert lock is not None
        assert lock.holders[0].since_s is not None
        assert 1.5 < lock.holders[0].since_s < time.monotonic() - began
        code, (finding,) = doctor(t.root, "--for", "0.1", "--long", "1.5")
        assert (code, finding["code"], finding["pids"]) == (0, "long-hold", [t.pids["a"]])


def test_semaphore_of_an_observed_killed_holder_is_a_long_wait() -> None:
    with target(made="permit = mp.Semaphore(1)") as t:
        t.fork("a", "b")
        t.do("a", "permit.acquire()")
        t.block("b", "permit")
        with contextlib.closing(Observer(server_of(t.root), limits=Limits(wait_s=0.5))) as observer:
            wait_until(lambda: [lock.holders for lock in observer.snapshot().locks if lock.holders], what="the holder")
            t.kill("a")
            found = wait_until(lambda: observer.snapshot().findings, what="the finding")
            assert [(finding.code, finding.severity) for finding in found] == [("long-wait", "warning")]
        assert doctor(t.root, "--long", "0.5") == (0, []), "who comes later cannot know"
        told = json.loads(semtrace("doctor", str(t.root), "--json").stdout)
        assert "semaphores" in [gap["what"] for gap in told["not_checked"]]


def test_waiter_for_a_signal_is_idle_while_a_giver_lives() -> None:
    """Consumers that took some, and one that never got any. When the producer, too, waits for an answer, all of them
    are stuck.
    """
    with target(made="items, answers = mp.Semaphore(0), mp.Semaphore(0)") as t:
        t.fork("a", "b")
        t.do("p", "[items.release() for _ in range(3)]")
        t.do("a", "[items.acquire() for _ in range(3)]")
        t.do("a", "answers.release()")
        t.do("p", "answers.acquire()")
        t.block("a", "items")
        t.block("b", "items")
        assert doctor(t.root, "--for", "2", "--long", "0.5") == (0, [])
        t.block("p", "answers")
        code, (finding,) = doctor(t.root, "--for", "2")
        assert (code, finding["code"], finding["pids"]) == (3, "stuck", sorted({t.root, t.pids["a"], t.pids["b"]}))


def test_two_semaphores_in_both_orders_are_a_long_wait() -> None:
    with target(made="first, second = mp.Semaphore(1), mp.Semaphore(1)") as t:
        t.fork("a", "b")
        t.do("a", "first.acquire()")
        t.do("b", "second.acquire()")
        t.block("a", "second")
        t.block("b", "first")
        code, (finding,) = doctor(t.root, "--for", "4", "--long", "1")
        assert (code, finding["code"], finding["pids"]) == (0, "long-wait", sorted([t.pids["a"], t.pids["b"]]))


def test_idle_workers_of_a_pool_are_at_rest() -> None:
    program = (
        "import multiprocessing as mp, time, concurrent.futures as cf\n"
        "ctx = mp.get_context('fork')\n"
        "pool = ctx.Pool(3); pool.map(abs, range(9))\n"
        "executor = cf.ProcessPoolExecutor(2, ctx); list(executor.map(abs, range(9)))\n"
        "def f():\n"
        "    hidden = ctx.Pool(2); hidden.map(abs, range(9))\n"
        "    return lambda: hidden\n"
        "keep = [f()]\n"
        "print('READY', flush=True); time.sleep(100)\n"
    )
    with start(sys.executable, "-c", program) as (popen, log):
        wait_until(lambda: "READY" in log.read_text(), what="the pools")
        assert doctor(popen.pid, "--for", "2", "--long", "0.5") == (0, [])


@pytest.mark.slow
@pytest.mark.serial
def test_a_healthy_server_under_load_reloads_and_churn_gives_nothing() -> None:
    """Every picture of 8 s is judged: nothing but infos, ever."""
    with playing("shared", workers=4) as play:
        play.customers.start()
        observer = Observer(server_of(play.server.pid))
        stopped = threading.Event()
        trouble = threading.Thread(target=disturb, args=(play.server.pid, stopped))
        trouble.start()
        try:
            end = time.monotonic() + 8
            judged = 0
            while time.monotonic() < end or judged < 100:
                found = [f for f in observer.snapshot().findings if f.severity != "note"]
                judged += 1
                assert not found, found
                time.sleep(0.01)
        finally:
            stopped.set()
            trouble.join()
            observer.close()


def disturb(master: int, stopped: threading.Event) -> None:
    """Reloads, and now and then one worker less and one more: gunicorn lets the one that goes finish its work."""
    signals = (signal.SIGHUP, signal.SIGTTOU, signal.SIGTTIN)
    turn = 0
    while not stopped.wait(1.5) and alive(master) and child_pids(master):
        os.kill(master, signals[turn % len(signals)])
        turn += 1
