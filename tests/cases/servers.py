"""The cases with a real server or another library: gunicorn, uWSGI, uvicorn, celery, gevent, loky, multiprocess."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection

from support import PATIENCE_S, wait_until

from cases.examining import Act, Case
from cases.expectations import SLOW, STUCK, Expected, Found, Pids, Waits, children, grandchildren, root, said
from cases.sickness import Sick, gunicorn, sleeps_in, uvicorn, uwsgi
from cases.standard import DEADLY, INHERITED, NOT_INHERITED, ready, sick, waits

_ASLEEP = (35, 230, 202)  # nanosleep, clock_nanosleep, futex


def requests(*steps: tuple[str, ...], asleep: int = 1) -> Act:
    """Send each step's requests at once, the last ones until so many workers sleep in them."""

    def act(sick: Sick) -> None:
        sick.wait_still(0.3, 10)
        for paths in steps[:-1]:
            for path in paths:
                sick.get(path)
        deadline = time.monotonic() + PATIENCE_S
        sick.ask(*steps[-1])
        while asleep and not _reached(lambda: len(serving(sick)) >= asleep, 3):
            assert time.monotonic() < deadline, f"no {asleep} workers sleep in a request: {sick.output()[-1500:]}"
            sick.ask(*steps[-1])

    return act


def _reached(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def serving(sick: Sick) -> list[int]:
    """Return the workers with a thread that sleeps in something else than waiting for requests."""
    return [pid for pid in sick.children() if sleeps_in(pid, *_ASLEEP)]


def load(*paths: str, children: int) -> Act:
    """Send each of these again and again while the server is examined."""

    def act(sick: Sick) -> None:
        sick.wait_children(children)
        sick.ask_always(*paths)

    return act


def with_gunicorn(options: str, app: str) -> Callable[[str], list[str]]:
    return lambda python: gunicorn(python, *options.split(), app)


def private_lock(severity: str, pids: Pids, lock: str, place: str = "") -> Expected:
    return Expected((Found(frozenset({"private-lock"}), severity, pids=pids, lock=lock, place=place),))


def seed(lock: str, style: str, options: str, expected: Expected, asleep: int) -> Case:
    return Case(
        "seed_app",
        expected,
        requests(("/",) * 6, asleep=asleep),
        f"{lock} {style} {options}",
        with_gunicorn(f"-w 4 -t 0 {options}", "seed_app:app"),
        needs=("gunicorn",),
        env={"LOCK": lock, "STYLE": style},
        watch_s=2.0,
        long_s=60.0,
    )


def unshared(place: str = "") -> Expected:
    return Expected((Found(frozenset({"unshared-lock"}), "error", lock="seed_app.lock"),))


# With a shared lock one worker is inside, and the others are turned away or wait: as it should be.
SEED = (
    seed("multiprocessing", "try", "--preload", Expected(quiet=True), 1),
    seed("multiprocessing", "with", "--preload", Expected(quiet=True), 4),
    seed("multiprocessing", "try", "", unshared(), 4),
    seed("multiprocessing", "with", "", unshared(), 4),
    seed("threading", "try", "--preload", private_lock("error", children, "seed_app.lock", "holds by acquire"), 4),
    seed("threading", "with", "--preload", private_lock("error", children, "seed_app.lock", "holds by with"), 4),
    seed("threading", "try", "", private_lock("error", children, "seed_app.lock", "holds by acquire"), 4),
    seed("threading", "with", "", private_lock("error", children, "seed_app.lock", "holds by with"), 4),
)


def forgotten(program: str, bad: str, options: str, lock: str, **changes: object) -> Case:
    workers = int(options.split("-w ")[1][0])
    return Case(
        program,
        sick(
            Found(STUCK, "error", of=children, lock=lock),
            waits=(Waits(serving_one, "private-lock/signal", stuck=True),),
        ),
        requests((bad,), ("/",) * (4 * workers)),
        options,
        with_gunicorn(f"-t 0 {options}", f"{program}:app"),
        needs=("gunicorn",),
        **changes,  # type: ignore[arg-type]
    )


def serving_one(sick: Sick) -> Collection[int]:
    return serving(sick)[:1]


FORGOTTEN = (
    forgotten("forgotten_app", "/bad", "-w 1 --preload", "session_lock"),
    forgotten("forgotten_app", "/bad", "-w 1", "session_lock"),
    forgotten("forgotten_app", "/bad", "-w 4 --preload", "session_lock"),
    forgotten("forgotten_return", "/empty", "-w 2 --preload", ""),
    Case(
        "forgotten_shared",
        sick(
            Found(STUCK, "error", pids=children, lock="stock_lock"),
            waits=(Waits(children, "shared-lock", stuck=False),),  # the master maps it, and may release it
            threads=0,
        ),
        requests(("/bad",), ("/",) * 9, asleep=3),
        command=with_gunicorn("-w 3 -t 0 --preload", "forgotten_shared:app"),
        needs=("gunicorn",),
        long_s=1.0,
    ),
    Case(
        "forgotten_idle",
        Expected((Found(frozenset({"long-hold"}), "warning", of=children, lock="stock_lock", place="waits"),)),
        lambda sick: sick.get("/"),
        command=with_gunicorn("-w 1 --preload", "forgotten_idle:app"),
        needs=("gunicorn",),
        rests=False,
        long_s=60.0,
    ),
    Case(
        "forgotten_forks",
        sick(
            Found(STUCK, "error", of=children, lock="totals_lock", place="waits"),
            waits=(Waits(serving_one, "private-lock/signal", stuck=True),),
        ),
        requests(("/bad",), ("/",) * 8),
        command=lambda python: [python, "forgotten_forks.py", "{socket}"],
    ),
)

# A server whose first thread serves is not kept from its work by others, nor is one with threads left for requests.
ROOMY = (
    *(
        Case(
            "healthy_one_background",
            Expected(quiet=True, stuck={"threads": 0}, never=NOT_INHERITED | STUCK),
            requests(("/",), asleep=0),
            kind,
            with_gunicorn("-w 2", "healthy_one_background:app"),
            needs=("gunicorn",),
            env={"KIND": kind},
            rests=False,
            long_s=1.0,
        )
        for kind in ("loop", "listener", "event")
    ),
    Case(
        "healthy_longpoll",
        Expected(quiet=True, stuck={"threads": 0}, never=NOT_INHERITED | STUCK),
        requests(("/poll",) * 6, asleep=2),
        command=with_gunicorn("-w 2 -t 0 --threads 8", "healthy_longpoll:app"),
        needs=("gunicorn",),
        rests=False,
        long_s=1.0,
    ),
    Case(
        "executor_preloaded",
        Expected((Found(frozenset({"stuck"}), "error", pids=children, place="waits"),), stuck={"workers": 2}),
        requests(("/", "/", "/"), asleep=2),
        command=with_gunicorn("-w 2 -t 0 --preload", "executor_preloaded:app"),
        needs=("gunicorn",),
    ),
    Case(
        "gthread_full",
        Expected((Found(frozenset({"stuck"}), "error", of=children, place="waits"),)),
        requests(("/wait", "/wait"), asleep=1),
        command=with_gunicorn("-w 1 -t 0 --threads 2", "gthread_full:app"),
        needs=("gunicorn",),
        rests=False,
        long_s=1.0,
    ),
)

OTHERS = (
    Case(
        "gevent_app",
        sick(Found(STUCK, "error", of=children, lock="ledger_lock")),
        requests(("/", "/"), asleep=1),
        "gevent --preload",
        with_gunicorn("-w 1 -t 0 --preload -k gevent", "gevent_app:app"),
        needs=("gunicorn", "gevent"),
    ),
    Case(
        "all_wait_app",
        Expected(
            (Found(SLOW | {"stuck"}, "error", lock="order_lock"),),
            (Waits(children, "shared-lock", stuck=False),),
            never=NOT_INHERITED | {"deadlock"},
        ),
        requests(("/",) * 6, asleep=3),
        command=with_gunicorn("-w 3 -t 0 --preload", "all_wait_app:app"),
        needs=("gunicorn",),
        long_s=1.0,
    ),
    Case(
        "manager_app",
        Expected(
            (Found(STUCK, "error", lock="manager_app.order_lock"),),
            (Waits(lambda sick: sick.children()[-2:], "manager-lock"),),
            never=NOT_INHERITED,
        ),
        requests(("/die",), ("/",) * 4, asleep=0),
        command=with_gunicorn("-w 2 -t 0 --preload", "manager_app:app"),
        needs=("gunicorn",),
        long_s=1.0,
    ),
    *(
        Case(
            "manager_dead",
            Expected((Found(STUCK, "error"),), (Waits(said("ready"), "manager-lock", stuck=True),)),
            ready(),
            name,
            arguments=(name,),
            needs=(name,),
        )
        for name in ("billiard", "multiprocess")
    ),
    Case(
        "cache_app",
        Expected(
            (),
            (),
            never=NOT_INHERITED | STUCK,
            exit=0,
        ),
        requests(("/slow", "/slow", "/slow", "/slow"), asleep=2),
        "gthread",
        with_gunicorn("-w 2 --threads 3 --preload", "cache_app:app"),
        needs=("gunicorn",),
        watch_s=2.0,
    ),
    Case(
        "cache_app",
        Expected(quiet=True, stuck={"threads": 0}),
        requests(("/",), ("/",), asleep=0),
        "idle",
        with_gunicorn("-w 2 --preload", "cache_app:app"),
        needs=("gunicorn",),
    ),
    Case(
        "uwsgi_app",
        private_lock("error", children, "list_lock"),
        load(*["/"] * 6, children=3),
        command=lambda python: uwsgi(python, "-p", "3", "--wsgi-file", "uwsgi_app.py"),
        needs=("uwsgi",),
        rests=False,
        watch_s=3.0,
    ),
    *(
        Case(
            "asyncio_app",
            Expected((Found(frozenset({"private-lock"}), "warning", lock="asyncio_app.lock"),)),
            load(*["/"] * 8, children=count),
            label,
            command,
            needs=("uvicorn", "uvicorn_worker", "gunicorn"),
            rests=False,
            watch_s=3.0,
        )
        for label, count, command in (
            ("uvicorn", 4, lambda python: uvicorn(python, "--workers", "3", "asyncio_app:app")),
            ("gunicorn", 3, with_gunicorn("-w 3 -k uvicorn_worker.UvicornWorker", "asyncio_app:app")),
            ("preload", 3, with_gunicorn("-w 3 --preload -k uvicorn_worker.UvicornWorker", "asyncio_app:app")),
        )
    ),
    Case(
        "old_worker",
        Expected(
            (Found(SLOW | {"stuck"}, "warning", pids=lambda sick: sick.children()[:2]),),
            (Waits(lambda sick: sick.children()[:2], "thread-end", stuck=False),),
            never=NOT_INHERITED | {"deadlock"},
        ),
        lambda sick: replace_workers(sick),
        command=with_gunicorn("-w 2 -t 60 --graceful-timeout 60", "old_worker:app"),
        needs=("gunicorn",),
        long_s=1.0,
        rests=False,
    ),
    Case(
        "metrics_app",
        Expected(
            (Found(INHERITED, "error", pids=children),),
            (waits(children, "private-lock"),),
            stuck={"threads": 3, "workers": 3, "of_workers": 3},
            never=frozenset({"orphaned-lock"}),
        ),
        requests(("/",) * 6, asleep=3),
        command=with_gunicorn("--preload -w 3 -t 0", "metrics_app:app"),
        needs=("gunicorn", "prometheus_client"),
        env={"PROMETHEUS_MULTIPROC_DIR": "{folder}"},
    ),
    Case(
        "celery_jobs",
        Expected(
            (Found(INHERITED, "error", pids=children),),
            (waits(children, "private-lock"),),
            stuck={"threads": 2},
            never=frozenset({"orphaned-lock"}),
        ),
        lambda sick: sole_threads_blocked(sick, 2),
        command=lambda python: [python, "-m", "celery", "-A", "celery_jobs", "worker", "-c", "2"],
        needs=("celery",),
        rests=False,
    ),
    Case(
        "pool_in_request",
        Expected(
            (Found(INHERITED, "error", pids=grandchildren, place="waits", nowhere="forks"),),
            (waits(grandchildren, "private-lock"),),
            never=frozenset({"orphaned-lock"}),
        ),
        requests(("/pool",)),
        "pool",
        with_gunicorn("-w 1 --threads 2 -t 0", "pool_in_request:app"),
        needs=("gunicorn",),
        rests=False,
    ),
    Case(
        "pool_in_request",
        Expected(quiet=True, stuck={"threads": 0}),
        requests(("/keep",), ("/keep",), asleep=0),
        "keep",
        with_gunicorn("-w 1 --threads 2 -t 0", "pool_in_request:app"),
        needs=("gunicorn",),
        long_s=1.0,
    ),
    Case(
        "library_stopped",
        Expected((Found(frozenset({"stopped"}), "warning"),), never=NOT_INHERITED | STUCK),
        ready(),
        needs=("loky",),
    ),
    Case(
        "library_killed",
        Expected((Found(DEADLY, "error/warning", pids=root),)),
        lambda sick: sick.wait_children(2),
        needs=("multiprocess",),
    ),
)

IDLE = (
    Case(
        "celery_idle",
        Expected(quiet=True, stuck={"threads": 0}),
        lambda sick: sick.wait_children(2),
        command=lambda python: [python, "-m", "celery", "-A", "celery_idle", "worker", "-c", "2"],
        needs=("celery",),
        rests=False,
        long_s=1.0,
    ),
    Case(
        "dramatiq_idle",
        Expected(quiet=True, stuck={"threads": 0}),
        lambda sick: sick.wait_output("ready for action", 2),
        command=lambda python: [python, "-m", "dramatiq", "dramatiq_idle", "-p", "2", "-t", "2"],
        needs=("dramatiq",),
        rests=False,
        long_s=1.0,
    ),
    Case(
        "huey_idle",
        Expected(quiet=True, stuck={"threads": 0}),
        lambda sick: sick.wait_children(3),
        command=lambda python: [python, "-m", "huey.bin.huey_consumer", "huey_idle.huey", "-k", "process", "-w", "2"],
        needs=("huey",),
        env={"HUEY": "{folder}/huey.db"},
        rests=False,
        long_s=1.0,
    ),
)


def replace_workers(sick: Sick) -> None:
    """Reload gunicorn, and wait until the old workers are at their end next to the new ones."""
    wait_until(lambda: sick.output().count("Booting worker") >= 2, what="two workers")
    sick.wait_still(0.3, 5)
    sick.signal(signal.SIGHUP)
    sick.wait_children(4)
    sick.wait_still(0.5, 10)


def sole_threads_blocked(sick: Sick, count: int) -> None:
    """Wait until so many children with one thread sleep in a futex."""

    def blocked() -> bool:
        return sum(len(sleeps_in(pid, 202)) == 1 for pid in sick.children()) >= count

    wait_until(blocked, what=f"{count} blocked workers; it said: {sick.output()[-1500:]}")
    sick.wait_still(0.5, 3)
