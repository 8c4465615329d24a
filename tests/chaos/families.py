"""The families of programs: their code, the acts on them, and the measurements of them."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from typing import Any

LOCKS_OF_ALL_KINDS = ["Lock", "Lock", "Lock", "RLock", "RLock", "BoundedSemaphore", "BoundedSemaphore", "Semaphore"]

# What is done to a program and how often, by weight.
USUAL = {"kill": 2, "kill_holder": 3, "stop": 2, "starve": 1, "spin": 1, "rest": 6}
QUIET = {"kill_holder": 3, "kill": 1, "rest": 3}
HEALTHY = {"stop": 1, "starve": 1, "spin": 1, "rest": 6}
STARVING = {"starve": 4, "spin": 4, "rest": 2}


@dataclass(frozen=True)
class Family:
    """`letter` is the pattern of issue 11 that it shows. `host`: it runs on the interpreter of this project alone."""

    name: str
    program: str = "workers.py"
    config: dict[str, Any] = field(default_factory=dict)
    acts: dict[str, int] = field(default_factory=lambda: USUAL)
    letter: str = ""
    host: bool = False
    needs: str = ""  # a module
    releases: float = 0.5  # how many of the orphans semtrace releases; the others are given back by the controller
    returners: int = 0  # so many at once, which do not wait until an orphan has been found; 0: one, which does
    gunicorn: tuple[str, ...] = ()
    pause_s: tuple[float, float] = (0.1, 0.8)  # between two acts
    fresh_every_s: float = 2.5  # between two observers that have never seen it
    handed: bool = False  # one takes what another releases
    one_by_one: bool = False  # nobody is killed while an orphan has not been found

    @property
    def exits(self) -> bool:
        """Return True if its processes end while they hold, without having been killed."""
        return bool(self.config.get("exit_while_held") or self.config.get("exec_while_held"))

    @property
    def makes_locks(self) -> bool:
        """Return True if its processes make locks all the time."""
        return self.program == "jobs.py"

    @property
    def runs_here(self) -> bool:
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def _of(name: str, *, program: str = "workers.py", **more: Any) -> Family:
    known = {key: more.pop(key) for key in list(more) if key in Family.__dataclass_fields__}
    return Family(name, program, more, **known)


# Many locks, so that each snapshot gives many judgements; and threads that hold several, so that many are taken.
WIDE: dict[str, Any] = {"workers": 5, "nested": 5}
ALL_KINDS: dict[str, Any] = {"kinds": LOCKS_OF_ALL_KINDS * 5, **WIDE}
SOME_LOCKS: dict[str, Any] = {"kinds": ["Lock"] * 24, "workers": 4, "nested": 3}
UNNAMED = ["Lock", "Lock", "BoundedSemaphore"] * 8  # as a Queue has them
SEMAPHORES = ["BoundedSemaphore", "Semaphore"] * 16

FAMILIES: tuple[Family, ...] = (
    _of("lock", kinds=["Lock"] * 40, **WIDE),
    _of("rlock", kinds=["RLock"] * 40, **WIDE),
    _of("semaphore", kinds=SEMAPHORES, **WIDE),
    _of("noise", noise=True, **ALL_KINDS),
    _of("threads", threads=2, **ALL_KINDS),
    _of("healthy", acts=HEALTHY, threads=2, computes_inside=True, **ALL_KINDS),
    _of("quiet", acts=QUIET, one_by_one=True, **ALL_KINDS),
    _of("exits", exit_while_held=True, exec_while_held=True, exec_every_s=0.5, **ALL_KINDS),
    _of("starved", acts=STARVING, computes_inside=True, pause_s=(0.0, 0.1), **ALL_KINDS),
    _of("jobs", program="jobs.py", letter="A", kinds=["Lock", "Lock", "RLock", "Lock"] * 6, acts=HEALTHY),
    _of("jobs-killed", program="jobs.py", letter="A", kinds=["Lock", "Lock", "RLock", "BoundedSemaphore"] * 6),
    _of("shared", program="relatives.py", letter="B", kinds=["Lock"] * 24, pairs=4, longest_s=0.12, acts=HEALTHY),
    _of(
        "shared-loaded",
        program="relatives.py",
        letter="B",
        kinds=["Lock"] * 24,
        pairs=3,
        one_processor=True,
        computes_inside=True,
        acts=STARVING,
    ),
    _of("units", program="relatives.py", letter="C", mode="units", kinds=SEMAPHORES, pairs=4, acts=HEALTHY),
    _of("inherited", program="relatives.py", letter="E", mode="inherited", kinds=["Lock", "RLock"] * 12, pairs=4),
    _of("computing", letter="F", computing=2, **SOME_LOCKS, acts=QUIET, one_by_one=True),
    _of("daemons", letter="F", relatives=2, **SOME_LOCKS, acts=QUIET, one_by_one=True),
    _of("forking", letter="F", fork_every_s=0.02, **SOME_LOCKS, acts=QUIET, one_by_one=True),
    _of("bounded", letter="F", kinds=UNNAMED, units=1, hidden=True, nested=2, acts=QUIET, one_by_one=True),
    _of("lost-units", letter="F", kinds=UNNAMED, units=2, hidden=True, nested=2, acts=QUIET, one_by_one=True),
    _of("handing", program="handing.py", kinds=["Lock", "Semaphore"] * 8, pairs=4, acts=HEALTHY, handed=True),
    _of("fork", start="fork", **ALL_KINDS),
    _of("spawn", start="spawn", letter="D", **ALL_KINDS),
    _of("spawn-units", start="spawn", letter="D", kinds=SEMAPHORES, **WIDE, acts=HEALTHY, fresh_every_s=0.5),
    _of("forkserver", start="forkserver", letter="D", **ALL_KINDS),
    _of("billiard", library="billiard", start="fork", host=True, needs="billiard", **ALL_KINDS),
    _of("multiprocess", library="multiprocess", start="fork", host=True, needs="multiprocess", **ALL_KINDS),
    _of("loky", library="loky", start="spawn", host=True, needs="joblib", **ALL_KINDS),
    _of("traced", traced=True, host=True, **ALL_KINDS),
    _of(
        "traced-threads",
        traced=True,
        host=True,
        threads=2,
        **ALL_KINDS,
    ),
    _of(
        "sync",
        program="app.py",
        host=True,
        needs="gunicorn",
        gunicorn=("-w", "4"),
        kinds=["Lock", "RLock"] * 16,
        nested=4,
    ),
    _of(
        "gthread",
        program="app.py",
        host=True,
        needs="gunicorn",
        gunicorn=("-w", "3", "-k", "gthread", "--threads", "4"),
        kinds=["Lock", "RLock"] * 16,
        nested=4,
    ),
    _of(
        "races",
        kinds=["Lock"] * 10,
        workers=10,
        acts={"kill_holder": 10, "kill": 3},
        releases=1.0,
        returners=3,
        pause_s=(0.02, 0.2),
        longest_s=0.02,
    ),
)

BY_NAME = {family.name: family for family in FAMILIES}
HOST = sys.executable
