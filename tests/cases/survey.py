#!/usr/bin/env python3
"""Run all programs of a directory of cases, and print what semtrace says about each: `survey.py DIR [NAME...]`.

It judges nothing: it shows where semtrace stands. The programs are known by their names, in the table below, which has
how to start each and what makes it sick. What the servers and libraries need is installed into a virtual environment
of its own (`~/.cache/semtrace/cases-venv`, or SEMTRACE_CASES_VENV), once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "src")]

from support import child_pids, descendants, kill_tree, wait_until  # noqa: E402

from cases.sickness import Sick, catches, end, gunicorn, running, sleeps_in, uvicorn, uwsgi  # noqa: E402
from cases.threads import threads  # noqa: E402

VENV = Path(os.environ.get("SEMTRACE_CASES_VENV") or Path.home() / ".cache/semtrace/cases-venv")
PACKAGES = (
    *("gunicorn", "uwsgi", "uvicorn", "uvicorn-worker", "hypercorn", "gevent", "flask", "celery", "billiard"),
    *("dramatiq", "huey", "loky", "joblib", "pathos", "multiprocess", "pebble", "prometheus_client"),
)
_READ = 0 if os.uname().machine == "x86_64" else 63

Act = Callable[[Sick], object]


@dataclass(frozen=True)
class Case:
    """How a program is started, with `PY` for the interpreter, what makes it sick, and how long it then takes."""

    program: str
    label: str = ""
    argv: Callable[[str], list[str]] | None = None
    sicken: Act | None = None
    serves: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    still_s: float = 15.0
    """Wait at most so long until it rests."""
    settle_s: float = 2.5
    """Then leave it alone for so long."""
    watch_s: float = 1.5
    pid: Callable[[Sick], int] = lambda sick: sick.pid

    @property
    def title(self) -> str:
        return f"{self.program} {self.label}".strip()


def plain(program: str, **changes: object) -> Case:
    return Case(program, argv=lambda python: [python, f"{program}.py"], **changes)  # type: ignore[arg-type]


def served(program: str, options: str, *steps: tuple[str, ...], label: str = "", **changes: object) -> Case:
    """A gunicorn with these options. Each step is a group of requests that are sent at once."""
    arguments = [*options.split(), f"{program}:app"]
    changes.setdefault("sicken", lambda sick: ask(sick, *steps))
    return Case(program, label or options, lambda python: gunicorn(python, *arguments), serves=True, **changes)  # type: ignore[arg-type]


def ask(sick: Sick, *steps: tuple[str, ...]) -> None:
    for paths in steps:
        sick.ask(*paths)
        time.sleep(0.7)


def kill_reader(sick: Sick) -> None:
    """Kill the idle worker of the pool that has the lock and reads from the pipe."""

    def reader() -> int:
        return next((pid for pid in sick.children() if sleeps_in(pid, _READ)), 0)

    sick.wait_output("[0, 1")
    end(wait_until(reader, what="a worker that reads"))


def hang_by_hup(sick: Sick) -> None:
    wait_until(lambda: catches(sick.pid, signal.SIGHUP), what="the handler")
    sick.signal_until(signal.SIGHUP, 0.002, lambda: sick.wait_still(0.3, 0.5))


def hang_by_term(sick: Sick) -> None:
    """Terminate the parent; if it has ended then, this try has missed the moment."""
    sick.wait_children(1)
    time.sleep(0.3)
    sick.signal(signal.SIGTERM)
    sick.wait_still(1.0, 20)
    if sick.popen.poll() is not None:
        raise Missed


class Missed(Exception):
    """It did not become sick, which takes luck: try again."""


def inner_python(sick: Sick) -> int:
    """Return the interpreter below `unshare` and `sh`."""
    pid = sick.pid
    while "python" not in os.path.basename(os.readlink(f"/proc/{pid}/exe")):
        pid = child_pids(pid)[0]
    return pid


def _shm(python: str) -> list[str]:
    return ["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o size=1m none /dev/shm && exec {python} shm_full.py"]


LOAD = ("/list",) * 4
CASES = (
    served("seed_threading", "-w 4 --preload", ("/",) * 6),
    served("seed_threading", "-w 4", ("/",) * 6),
    served("forgotten_release", "--preload -w 1 -t 0", ("/",), ("/bad",), ("/",)),
    served("forgotten_release", "-w 1 -t 0", ("/",), ("/bad",), ("/",)),
    served("forgotten_release", "--preload -w 4 -t 0", ("/",), ("/bad",), ("/",) * 12),
    plain("taken_twice"),
    plain("child_takes_twice"),
    plain("queue_inside"),
    served("helper_context", "-w 1 --threads 4 --preload", ("/report",), ("/quick",), label="/report /quick"),
    served("helper_context", "-w 3 -t 0", ("/stack",), ("/stack",), label="-w 3 /stack twice"),
    served("helper_context", "-w 3 -t 0 --preload", ("/stack",), ("/stack",), label="-w 3 --preload /stack twice"),
    served("helper_context", "-w 3 -t 0", ("/held",), ("/held",), label="-w 3 /held twice"),
    served("helper_context", "-w 1 --threads 4 --preload", ("/ab", "/ba"), label="/ab /ba"),
    served("helper_context", "-w 1 --threads 4 --preload", ("/twice",), label="/twice"),
    served(
        "metrics_fork", "--preload -w 3 -t 0", ("/",) * 8, env={"PROMETHEUS_MULTIPROC_DIR": "{folder}"}, still_s=2.0
    ),
    Case(
        "telemetry_jobs",
        argv=lambda python: [python, "-m", "celery", "-A", "telemetry_jobs", "worker", "-c", "2"],
        sicken=lambda sick: (sick.wait_output("[queues]"), time.sleep(7)),
        still_s=8.0,
    ),
    served("pool_in_request", "-w 1 --threads 4", ("/warm",), ("/pool",), label="/warm /pool", still_s=4.0),
    served("pool_in_request", "-w 1 --threads 4", ("/keep",), label="/keep (healthy)"),
    plain("pool_reader_killed", sicken=kill_reader),
    plain("put_in_handler", sicken=hang_by_hup),
    plain("set_in_handler", sicken=hang_by_term),
    Case(
        "uwsgi_locks",
        "/list by 4 clients",
        lambda python: uwsgi(python, "-p", "3", "--wsgi-file", "uwsgi_locks.py"),
        lambda sick: sick.ask_always(*LOAD),
        serves=True,
        still_s=0.1,
        watch_s=3.0,
    ),
    Case(
        "uwsgi_locks",
        "/hang /save /save",
        lambda python: uwsgi(python, "-p", "3", "--wsgi-file", "uwsgi_locks.py"),
        lambda sick: ask(sick, ("/hang",), ("/save", "/save")),
        serves=True,
    ),
    Case(
        "asyncio_lock",
        "uvicorn --workers 3",
        lambda python: uvicorn(python, "--workers", "3", "asyncio_lock:app"),
        lambda sick: sick.ask_always(*["/"] * 8),
        serves=True,
        still_s=0.1,
        watch_s=3.0,
    ),
    *(
        served(
            "asyncio_lock",
            f"{preload} -w 3 -k uvicorn_worker.UvicornWorker",
            label=f"gunicorn {preload}",
            sicken=lambda sick: sick.ask_always(*["/"] * 8),
            still_s=0.1,
            watch_s=3.0,
        )
        for preload in ("", "--preload")
    ),
    served("file_lock", "--preload -w 3 -t 60", ("/stuck",), ("/", "/"), env={"LOCK": "{folder}/lock"}),
    served(
        "worker_that_stays",
        "-w 2 -t 60 --graceful-timeout 60",
        sicken=lambda sick: (sick.wait_output("Booting worker", 2), sick.signal(signal.SIGHUP), time.sleep(10)),
    ),
    plain("sem_exc"),
    plain("throttle"),
    plain("event_signal"),
    plain("cond_dead"),
    plain("barrier_missing"),
    plain("event_nosetter"),
    plain("joinable"),
    plain("queue_undrained"),
    plain("rlock_inherit"),
    plain("loky_kill", sicken=lambda sick: sick.wait_output("stopped")),
    plain("user_stopped"),
    plain("pathos_task_lost"),
    plain("multiprocess_full_queue"),
    plain("multiprocess_idle"),
    Case("shm_full", "", _shm, settle_s=3.0, pid=inner_python),
    plain("bigmem", sicken=lambda sick: sick.wait_output("ready"), still_s=40.0, settle_s=2.0),
)


def python_of_cases() -> str:
    python = VENV / "bin/python"
    if not python.exists():
        print(f"installing into {VENV} (some minutes, once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return str(python)


def semtrace(*arguments: object) -> tuple[int | None, str, str]:
    """Return the exit code, None if it took too long, and both outputs."""
    command = [sys.executable, "-m", "semtrace", *map(str, arguments)]
    source = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src")}
    try:
        done = subprocess.run(command, env=source, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return None, "", "took more than 120 s"
    return done.returncode, done.stdout, done.stderr


def examine(case: Case, directory: Path, options: argparse.Namespace) -> str:
    """Return the lines of the table for one case."""
    began = time.monotonic()
    for _ in range(12):
        try:
            body = _attempt(case, directory, options)
            break
        except Missed:
            continue
        except Exception:  # noqa: BLE001 -- one case that fails must not end the survey
            body = "    SURVEY FAILED " + traceback.format_exc(limit=-2)
            break
    else:
        body = "    SURVEY FAILED: it never became sick"
    return f"{case.title}  ({time.monotonic() - began:.0f} s)\n{body}"


_running: list[Sick] = []


@contextlib.contextmanager
def _registered(sick: Sick) -> Iterator[None]:
    """Let whatever ends the survey end the program as well."""
    _running.append(sick)
    try:
        yield
    finally:
        _running.remove(sick)


def _leave(number: int, frame: object) -> None:
    """End all programs, then the survey: its threads would go on."""
    for sick in tuple(_running):
        kill_tree(sick.pid)
        shutil.rmtree(sick.folder, ignore_errors=True)
    os._exit(128 + number)


def _attempt(case: Case, directory: Path, options: argparse.Namespace) -> str:
    assert case.argv
    argv = case.argv(options.python)
    with running(argv, directory, dict(case.env)) as sick, _registered(sick):
        if case.serves:
            sick.wait_accepting()
            sick.wait_still(0.5, 3.0)
        if case.sicken:
            case.sicken(sick)
        sick.wait_still(1.0, case.still_s)
        time.sleep(case.settle_s)
        pid = case.pid(sick)
        doctor = semtrace("doctor", pid, "--json", "--for", case.watch_s, "--long", options.long)
        dump = semtrace("dump", pid)
        waits = semtrace("dump", pid, "--json") if options.waits else None
        state = [line for each in (pid, *descendants(pid)) for line in threads(each)] if options.threads else []
        said = sick.output()[-1500:] if options.output else ""
    return "\n".join(
        [*_findings(*doctor), *_first_line(*dump), *(_waits(*waits) if waits else []), *state, said]
    ).rstrip()


def _findings(code: int | None, out: str, err: str) -> list[str]:
    try:
        report = json.loads(out)
    except ValueError:
        return [f"    exit {code}  no JSON: {err.strip()[-300:] or out[:300]}"]
    findings = [found for found in report["findings"] if found["code"] != "leaked-name"]  # that is of the machine
    lines = [f"    exit {code}  {len(findings)} findings, {len(report['problems'])} problems"]
    for found in findings:
        lines.append(_cut(f"      {found['severity']:7} {found['code']:15} {found['title']}"))
    lines += [_cut(f"      problem {p['pid']} {p['what']}: {p['error']}") for p in report["problems"][:3]]
    return lines


def _first_line(code: int | None, out: str, err: str) -> list[str]:
    return [_cut(f"    dump: {next(iter(out.splitlines()), err.strip()[-150:])}" + (f" (exit {code})" if code else ""))]


def _waits(code: int | None, out: str, err: str) -> list[str]:
    try:
        report = json.loads(out)
    except ValueError:
        return [f"    no JSON from dump: {err.strip()[-200:]}"]
    lines = [f"    stuck: {report.get('stuck')}"]
    for wait in report.get("waits") or ():
        marks = ("stuck " if wait.get("stuck") else "") + ("timed" if wait.get("timed") else "")
        lines.append(
            _cut(
                f"      {wait.get('pid')}/{wait.get('tid')} {wait.get('kind')} {wait.get('on')} "
                f"{wait.get('since_s')} s {marks} at {wait.get('place')}"
            )
        )
    return lines


def _cut(line: str, width: int = 190) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def wanted(directory: Path) -> dict[str, str]:
    """Return what is right for each program, from the table in the directory's README, if it has one."""
    readme = directory / "README.md"
    rows = readme.read_text().splitlines() if readme.exists() else []
    found = {}
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if row.startswith("| `") and len(cells) >= 4:
            found.update(dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), cells[3]))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these programs")
    parser.add_argument("-j", type=int, default=4, dest="jobs", metavar="N", help="so many at once (default: 4)")
    parser.add_argument("--long", default=3, metavar="SECONDS", help="doctor's --long (default: 3)")
    parser.add_argument("--waits", action="store_true", help="also the waits and the stuck threads of dump --json")
    parser.add_argument("--threads", action="store_true", help="also where each thread sleeps")
    parser.add_argument("--output", action="store_true", help="also the end of what the program printed")
    parser.add_argument("--python", help=f"interpreter of the programs (default: {VENV}/bin/python)")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _leave)
    options.python = options.python or python_of_cases()
    here = {path.stem for path in options.directory.glob("*.py")}
    chosen = [case for case in CASES if case.program in here and (not options.names or case.program in options.names)]
    right = wanted(options.directory)
    with ThreadPoolExecutor(options.jobs) as pool:
        pending = [(case, pool.submit(examine, case, options.directory.resolve(), options)) for case in chosen]
        for case, result in pending:
            print(result.result())
            if case.program in right:
                print(
                    textwrap.fill(f"right: {right[case.program]}", 120, initial_indent="    ", subsequent_indent="    ")
                )
            print(flush=True)
    known = {case.program for case in CASES} | {"telemetry"}
    if unknown := sorted(here - known - {"__init__"}):
        print("not in the table, so not run:", *unknown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
