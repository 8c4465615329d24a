"""One program, for some seconds: it runs, things are done to it, and every snapshot is judged."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from semtrace.model import Lock, Server, Snapshot
from semtrace.observe.observer import Observer, settle
from semtrace.present.findings import title
from semtrace.servers.discovery import server_of
from tests.chaos.controller import Controller
from tests.chaos.families import Family
from tests.chaos.judge import FALSE_ERROR, QUALIFIED, Wrong, judge, judge_dropped, kind_of_reason
from tests.chaos.orphans import Orphans, Returner, slots_left
from tests.chaos.programs import journal as j
from tests.chaos.tally import Tally
from tests.chaos.truth import Copy, Entry, Part, Reader, Truth, Waits, truth_between, truth_within, waits_between
from tests.chaos.windows import Windows
from tests.support import Running, start, start_gunicorn, wait_until

PROGRAMS = Path(__file__).parent / "programs"
DOCTOR_EVERY_S, STUCK_S = 8.0, 20.0
SLOWEST_HZ, FASTEST_HZ = 10.0, 50.0
FEW_SLOTS = 12
CLIENTS = 6


@dataclass(frozen=True)
class Setting:
    """All that an episode is made of: the same ones give the same program and the same acts, if not the same times."""

    family: Family
    seed: int
    seconds: float
    python: str = sys.executable

    def command(self) -> str:
        python = f" --python {self.python}" if self.python != sys.executable else ""
        return f"python -m tests.chaos --only {self.family.name} --seed {self.seed} --seconds {self.seconds:g}{python}"


def run(setting: Setting) -> Tally:
    """Run an episode. The program is ended and all that it made is removed, whatever happens."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="semtrace-chaos-") as directory:
        path = Path(directory, "journal")
        j.make(path)
        with started(setting, path) as (root, log):
            try:
                _Episode(setting, path, root, tally).run()
            except Exception as error:  # noqa: BLE001  reported with its episode
                tally.troubles[f"{setting.family.name}: {type(error).__name__}: {error}"[:500]] += 1
            if "Traceback" in (output := log.read_text(errors="replace")) and not _expected(output):
                tally.acts["program traceback"] += 1
                tally.keep({"what": "program", "family": setting.family.name, "detail": output[-1500:]})
    return tally


def _expected(output: str) -> bool:
    """Return True for a broken pipe to a killed process, or a Barrier that was left."""
    last = output.rstrip().splitlines()[-1]
    return last.startswith(("BrokenPipeError", "threading.BrokenBarrierError", "ConnectionResetError", "EOFError"))


@contextlib.contextmanager
def started(setting: Setting, path: Path) -> Iterator[tuple[int, Path]]:
    family = setting.family
    config = {**family.config, "journal": str(path), "seed": setting.seed}
    argv = [setting.python, str(PROGRAMS / family.program), json.dumps(config)]
    if family.gunicorn:
        with _served(family, config) as found:
            yield found
        return
    with start(*argv, cwd=PROGRAMS) as (popen, log):

        def ready() -> bool:
            assert popen.poll() is None, log.read_text()
            return "ready" in log.read_text()

        wait_until(ready, what=f"{family.name}, log:\n{log.read_text()[-2000:]}")
        yield popen.pid, log


@contextlib.contextmanager
def _served(family: Family, config: dict[str, object]) -> Iterator[tuple[int, Path]]:
    """A gunicorn, and threads that send requests to it."""
    environment = {"CHAOS_CONFIG": json.dumps(config)}
    over = threading.Event()
    options = ("--preload", "--timeout", "5", "-c", str(PROGRAMS / "app_config.py"), *family.gunicorn)
    clients: list[threading.Thread] = []
    try:
        with start_gunicorn("app:app", *options, cwd=PROGRAMS, env=environment) as running:
            clients += [threading.Thread(target=_request, args=(running, over), daemon=True) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            yield running.pid, running.log
            over.set()
    finally:
        over.set()
        for client in clients:
            client.join()


def _request(running: Running, over: threading.Event) -> None:
    """Send requests until it is over. The worker that serves one may be killed meanwhile."""
    while not over.wait(0.005):
        with contextlib.suppress(OSError):
            running.get("/", timeout=3.0)


class _Episode:
    def __init__(self, setting: Setting, path: Path, root: int, tally: Tally) -> None:
        self._setting = setting
        self._family = setting.family
        self._tally = tally
        self._numbers = random.Random(f"{setting.seed} observer")
        self._reader = Reader(path)
        self._server: Server = server_of(root)
        self._root = root
        self._controller = Controller(setting.family, path, root, random.Random(f"{setting.seed} controller"))
        self._returners = [
            Returner(self._server, path, self._family.releases, tally, random.Random(f"{setting.seed} returner {i}"))
            for i in range(max(self._family.returners, 1))
        ]
        at_once = self._family.returners > 0
        self._orphans = Orphans(self._family.name, tally, self._numbers, self._give_back, at_once, setting.command())
        self._inodes: dict[int, None] = {}
        self._indexes: dict[int, int] = {}  # of the registered locks, by inode
        self._changed_s = time.monotonic()
        self._kills, self._alike = 0, set[int]()
        self._doctor: _Doctor | None = None

    def run(self) -> None:
        observer, windows = self._observer()
        self._controller.start()
        for returner in self._returners:
            returner.start()
        try:
            self._watch(observer, windows)
        finally:
            self._controller.end()
            for returner in self._returners:
                returner.end()
            if self._doctor is not None:
                self._doctor.end()
            observer.close()
            overlaps = self._reader.copy().overlaps()
            self._reader.close()
        if overlaps:
            self._tally.wrong[f"{self._family.name}: two inside, by its own threads"] += overlaps
        self._tally.acts.update(self._controller.counted)
        for error in filter(None, (self._controller.error, *(each.error for each in self._returners))):
            raise error

    def _observer(self) -> tuple[Observer, Windows]:
        observer = Observer(self._server)
        return observer, Windows(observer, self._reader, self._indexes)

    def _watch(self, observer: Observer, windows: Windows) -> None:
        ends_s = time.monotonic() + self._setting.seconds
        fresh_s = doctor_s = time.monotonic() + self._numbers.random()
        while time.monotonic() < ends_s:
            copy = self._sample(observer.snapshot, windows, "watching")
            if slots_left(copy) < FEW_SLOTS or self._is_stuck():
                self._tally.acts["ended early"] += 1
                return
            if time.monotonic() > fresh_s:
                self._look_afresh()
                fresh_s = time.monotonic() + self._family.fresh_every_s
            if time.monotonic() > doctor_s:
                self._examine()
                doctor_s = time.monotonic() + DOCTOR_EVERY_S
            self._poll_doctor(copy)
            time.sleep(1 / self._numbers.uniform(SLOWEST_HZ, FASTEST_HZ))

    def _give_back(self, entry: Entry, whole: bool) -> None:
        self._returners[entry.index % len(self._returners)].give_back(entry, whole)

    def _is_stuck(self) -> bool:
        return time.monotonic() - self._changed_s > STUCK_S

    def _look_afresh(self) -> None:
        """Take snapshots as `dump` does: a first one, a few more, and one that waits for proofs."""
        fresh, windows = self._observer()
        try:
            self._sample(fresh.snapshot, windows, "first")
            for _ in range(3):
                self._sample(fresh.snapshot, windows, "early")
            self._sample(lambda: settle(fresh, 0.4), windows, "settled")
        finally:
            fresh.close()

    # -- one sample

    def _sample(self, snapshot: Callable[[], Snapshot], windows: Windows, source: str) -> Copy:
        before = self._reader.copy()
        self._indexes.clear()
        self._indexes.update((entry.inode, entry.index) for entry in before.entries)
        seen = snapshot()
        self._tally.acts["snapshot"] += 1
        after = self._reader.copy()
        self._reader.retire(before)
        now_s = time.monotonic()
        if not seen.alive:
            raise AssertionError("the program has ended")
        entries = {e.inode: e for e in before.entries if e.inode and not e.sequence & 1}
        if any(not after.block(e.index).startswith(before.block(e.index)) for e in entries.values()):
            self._changed_s = now_s
        truths = {
            lock.id.inode: self._truth(before, after, entries[lock.id.inode].index, windows.parts.get(lock.id))
            for lock in seen.locks
            if lock.id.inode in entries
        }
        known = {inode: truth for inode, truth in truths.items() if isinstance(truth, Truth)}
        waits = waits_between(before, after, known)
        for lock in seen.locks:
            entry = entries.pop(lock.id.inode, None)
            if entry is None:
                self._judge_dropped(before, after, seen, lock, source)
                continue
            self._remember(entry.inode)
            truth = truths[entry.inode]
            if isinstance(truth, Truth):
                self._judge(truth, lock, waits, (before, seen, after), source, now_s)
            else:
                self._not_judged(truth, lock, (before, seen, after), entry.index, source)
        self._tally.unjudged[f"{self._family.name} not seen"] += len(entries)
        if source == "watching":
            self._let_kill(after)
        return after

    def _truth(self, before: Copy, after: Copy, index: int, parts: tuple[Part, Part] | None) -> Truth | str:
        """Return the truth, if need be of the moment in which the lock was read.

        After a hand-over, a Semaphore's holder is not defined, nor is any lock's after a death.
        """
        truth = truth_between(before, after, index)
        if isinstance(truth, str) and parts is not None:
            truth = truth_within(before, *parts, after)
        if self._family.handed and isinstance(truth, Truth) and (truth.dead or truth.entry.open_ended):
            return "handed over"
        return truth

    def _let_kill(self, copy: Copy) -> None:
        """Allow the next kill once every lock has been judged since the last: that may have left an orphan."""
        if self._controller.counted["kill"] != self._kills:
            self._kills, self._alike = self._controller.counted["kill"], set()
        registered = {entry.index for entry in copy.entries if entry.inode}
        if registered <= self._alike:
            self._controller.undiscovered = self._orphans.undiscovered

    def _remember(self, inode: int) -> None:
        self._inodes[inode] = None
        if len(self._inodes) > 5000:
            del self._inodes[next(iter(self._inodes))]

    def _judge(
        self, truth: Truth, lock: Lock, waits: Waits, sample: tuple[Copy, Snapshot, Copy], source: str, now_s: float
    ) -> None:
        seen = sample[1]
        name = self._family.name
        self._tally.judged[f"{name} {source}"] += 1
        for wrong in judge(truth, lock, seen.findings, waits):
            self._wrong(wrong, lock, source, sample, truth.entry.index)
        if not truth.dead:
            self._tally.states[f"{name} {source} {lock.state}"] += 1
            if lock.state == "unknown":
                self._tally.unknown[f"{name} {source}: {kind_of_reason(lock.reason)}"] += 1
        if source == "watching":
            self._orphans.see(truth, lock, now_s, dict(self._controller.killed_s))
            self._alike.add(truth.entry.index)

    def _not_judged(self, why: str, lock: Lock, sample: tuple[Copy, Snapshot, Copy], index: int, source: str) -> None:
        self._tally.unjudged[f"{self._family.name} {why}"] += 1
        if why in ("broken", "overlap"):
            what = "two inside" if why == "overlap" else "broken journal"
            self._wrong(Wrong(what, "by the journal"), lock, source, sample, index)

    def _judge_dropped(self, before: Copy, after: Copy, seen: Snapshot, lock: Lock, source: str) -> None:
        inode = lock.id.inode
        if inode not in self._inodes:
            return
        if any(e.inode == inode or e.sequence & 1 for e in (*before.entries, *after.entries)):
            return
        self._tally.judged[f"{self._family.name} {source} dropped"] += 1
        for wrong in judge_dropped(lock):
            # A helper may have kept it alive, and have ended since: only those that live on show that nobody did.
            stats = [j.start_ticks(process.pid) for process in lock.mapped_by]
            live_on = all(s and s[0] not in "ZX" and not s[2] & 4 for s in stats)
            if live_on and not any(
                _maps(process.pid, inode) for process in {*lock.mapped_by, *(each.id for each in seen.processes)}
            ):
                self._wrong(wrong, lock, source, (before, seen, after), None)

    def _wrong(
        self, wrong: Wrong, lock: Lock, source: str, sample: tuple[Copy, Snapshot, Copy], index: int | None
    ) -> None:
        before, seen, after = sample
        prefix = "qualified: " if wrong.what == QUALIFIED else ""
        self._tally.wrong[f"{prefix}{self._family.name} {source}: {wrong.what}"] += 1
        now_s = time.monotonic()
        events = [f"{at_s - now_s:.3f} s {what}" for at_s, what in self._controller.events]
        self._tally.keep(
            {
                "what": wrong.what,
                "family": self._family.name,
                "source": source,
                "detail": wrong.detail,
                "lock": repr(lock),
                "findings": [f"{f.severity} {f.code}: {title(f)}" for f in seen.findings if f.lock == lock.id],
                "processes": [f"{p.pid} of {p.ppid} {p.state}" for p in seen.processes],
                "journal before": described(before, index),
                "journal after": described(after, index),
                "acts": events[-12:],
                "again": self._setting.command(),
            }
        )

    # -- doctor

    def _examine(self) -> None:
        if self._doctor is None:
            self._doctor = _Doctor(self._root, self._controller.counted["kill"])

    def _poll_doctor(self, copy: Copy) -> None:
        doctor = self._doctor
        if doctor is None:
            return
        doctor.healthy &= not any(cell.life != "alive" for cell in copy.all_cells())
        doctor.healthy &= doctor.kills == self._controller.counted["kill"]
        report = doctor.report()
        if report is None:
            return
        self._doctor = None
        self._tally.acts["doctor healthy" if doctor.healthy else "doctor of the sick"] += 1
        for finding in report["findings"] if doctor.healthy and not self._family.exits else ():
            if finding["severity"] == "error":
                self._tally.wrong[f"{self._family.name} doctor: {FALSE_ERROR}"] += 1
                again = self._setting.command()
                detail = json.dumps(finding)
                self._tally.keep({"what": "doctor", "family": self._family.name, "detail": detail, "again": again})


class _Doctor:
    """`semtrace doctor --json`, while it runs. `healthy`: nobody died meanwhile, nor had left anything."""

    def __init__(self, root: int, kills: int) -> None:
        self.healthy, self.kills = True, kills
        command = [sys.executable, "-m", "semtrace", "doctor", "--json", str(root)]
        self._output = tempfile.TemporaryFile()
        self._popen = subprocess.Popen(command, stdout=self._output, stderr=subprocess.DEVNULL)

    def report(self) -> dict[str, list[dict[str, object]]] | None:
        if self._popen.poll() is None:
            return None
        self._output.seek(0)
        text = self._output.read()
        self._output.close()
        return json.loads(text) if text.strip() else {"findings": []}

    def end(self) -> None:
        self._popen.kill()
        self._popen.wait()
        self._output.close()


def described(copy: Copy, index: int | None) -> dict[str, object]:
    """A lock's entry, value and cells, as text can have them."""
    if index is None:
        return {"inodes": [entry.inode for entry in copy.entries]}
    cells = [
        f"slot {c.slot} PID {c.who.pid} {c.life} {'odd' if c.odd else 'even'} phase {c.phase} has {c.units}"
        for c in copy.cells(index)
    ]
    return {"entry": str(copy.entry(index)), "value": copy.values.get(index), "cells": cells}


def _maps(pid: int, inode: int) -> bool:
    try:
        return f" {inode} " in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
