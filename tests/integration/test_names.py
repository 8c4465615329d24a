"""The walk against real interpreters and real applications: every lock by the name it has in the source."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE_S, PROGRAMS, child_pids, start, start_gunicorn, wait_until
from support.pythons import VERSIONS, need

from semtrace.cpython.layout import LAYOUTS
from semtrace.cpython.name_walk import Walk, walk
from semtrace.cpython.threadlock import read_thread_lock
from semtrace.linux.memory import Memory
from semtrace.linux.process import read_stat

LAYOUT_CHANGES = ("3.8", "3.11", "3.12", "3.13", "3.15")  # those that the walk reads in another way than the one before
DEBIAN = Path("/usr/bin/python3")  # statically linked and stripped


@dataclass
class Planted:
    """The running program of tests/programs/planted.py."""

    popen: subprocess.Popen[bytes]
    log: Path
    table: dict[str, Any]
    answers: int = 0

    def tell(self, word: str) -> str:
        """Its answer to one word."""
        assert self.popen.stdin
        self.popen.stdin.write(word.encode() + b"\n")
        self.popen.stdin.flush()
        self.answers += 1
        lines = wait_until(self._answered, what=f"an answer to {word}")
        return lines[self.answers - 1][2:].strip()

    def fork(self) -> int:
        """A child that does no more: right after the fork it still makes the interpreter its own."""
        child = int(self.tell("fork"))
        wait_until(lambda: (s := read_stat(child)) and s.state == "sleeping", what="the child to wait")
        return child

    def _answered(self) -> list[str]:
        lines = [line for line in self.log.read_text("utf-8").splitlines() if line.startswith("ok")]
        return lines if len(lines) >= self.answers else []


@contextlib.contextmanager
def planted(python: Path, *args: str) -> Iterator[Planted]:
    with start(str(python), str(PROGRAMS / "planted.py"), *args, env={"PYTHONUTF8": "1"}, stdin_open=True) as (
        popen,
        log,
    ):
        line = wait_until(lambda: _ready(popen, log), what="the program to be ready")
        yield Planted(popen, log, json.loads(line.removeprefix("READY")))


def _ready(popen: subprocess.Popen[bytes], log: Path) -> str:
    lines = [line for line in log.read_text("utf-8").splitlines(keepends=True) if line.startswith("READY")]
    assert lines or popen.poll() is None, log.read_text("utf-8")
    return lines[0] if lines and lines[0].endswith("\n") else ""


@pytest.fixture(params=[*VERSIONS, "debian"])
def python(request: pytest.FixtureRequest) -> Path:
    if request.param != "debian":
        return Path(need(request.param))
    if not DEBIAN.exists():
        pytest.skip(f"no {DEBIAN} here")
    return DEBIAN


def named(walked: Walk) -> dict[str, tuple[str, str | None, str | None]]:
    """The first name of each lock."""
    return {names[0].name: (names[0].kind, names[0].owner, names[0].owner_kind) for names in walked.semlocks.values()}


def walk_pid(pid: int, **options: Any) -> Walk:
    with Memory(pid) as memory:
        return walk(pid, memory, budget_s=20.0, **options)


def _wrong(walked: Walk, table: list[list[Any]]) -> list[tuple[Any, Any]]:
    wrong = []
    for name, address, *rest in table:
        names = walked.semlocks.get(address)
        first = names[0] if names else None
        found = [first.name, first.kind, first.owner, first.owner_kind] if first else None
        if found != [name, *rest]:
            wrong.append(([name, *rest], found))
    return wrong


def test_every_planted_lock_is_named_exactly(python: Path) -> None:
    with planted(python) as program:
        walked = walk_pid(program.popen.pid)
        assert (walked.complete, walked.reason) == (True, None)
        assert len(program.table["semlocks"]) > 100
        assert _wrong(walked, program.table["semlocks"]) == []


def test_a_forked_child_has_the_same_names(python: Path) -> None:
    with planted(python) as program:
        child = program.fork()
        assert _wrong(walk_pid(child), program.table["semlocks"]) == []


def test_threading_locks_are_named_and_seen_locked(python: Path) -> None:
    with planted(python) as program:
        pid = program.popen.pid
        walked = walk_pid(pid)
        assert sorted([lock.name, lock.kind] for lock in walked.thread_locks) == program.table["threads"]
        assert walked.layout
        held = {"__main__.service.thread_lock", "__main__.async_lock"} | {
            f"__main__.thread_{name}" for name in ("lock", "rlock", "condition", "semaphore", "bounded")
        }

        def locked(of: int) -> set[str]:
            with Memory(of) as memory:
                states = {lock.name: read_thread_lock(memory, lock, walked.layout) for lock in walked.thread_locks}  # type: ignore[arg-type]
            assert None not in states.values()
            return {name for name, state in states.items() if state}

        assert locked(pid) == set()
        program.tell("hold")
        assert locked(pid) == held
        child = program.fork()
        program.tell("free")
        # what was found in the parent serves for the child, and each has its own
        assert (locked(pid), locked(child)) == (set(), held)


def test_threading_locks_of_others_are_left_out_unless_asked_for() -> None:
    with planted(Path(sys.executable)) as program:
        few = {lock.name for lock in walk_pid(program.popen.pid).thread_locks}
        everything = {lock.name: lock.own for lock in walk_pid(program.popen.pid, all_thread_locks=True).thread_locks}
        assert few == {name for name, own in everything.items() if own}
        assert everything["__main__.queue._notempty"] is False
        assert everything["threading._active_limbo_lock"] is False


def test_all_names_of_a_lock_are_kept_its_own_first() -> None:
    with planted(Path(sys.executable)) as program:
        walked = walk_pid(program.popen.pid)
        names = next(names for names in walked.semlocks.values() if names[0].name == "__main__.lock")
        assert [(each.name, each.owner) for each in names] == [
            ("__main__.lock", None),
            ("__main__.cond_of_lock._lock", "__main__.cond_of_lock"),
        ]


def test_a_budget_that_is_spent_leaves_the_walk_incomplete() -> None:
    with planted(Path(sys.executable)) as program, Memory(program.popen.pid) as memory:
        late = walk(program.popen.pid, memory, budget_s=0.0)
        few = walk(program.popen.pid, memory, max_objects=300)
    assert not late.complete
    assert late.reason
    assert late.reason.startswith("out of time")
    assert not few.complete
    assert few.objects < 2000


def test_a_process_that_ends_gives_a_reason_and_no_error() -> None:
    with planted(Path(sys.executable)) as program:
        with Memory(program.popen.pid) as memory:
            program.popen.kill()
            program.popen.wait(PATIENCE_S)
            walked = walk(program.popen.pid, memory)
        assert (walked.complete, dict(walked.semlocks)) == (False, {})
        assert walked.reason


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_locks_that_only_running_functions_know_are_named_by_them(python: Path, method: str) -> None:
    with start(str(python), str(PROGRAMS / "names_spawned.py"), method) as (_, log):

        def pids() -> dict[str, int]:
            whole = [line.split() for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
            pairs = {line[0]: int(line[1]) for line in whole if line[0] in ("parent", "child")}
            return pairs if len(pairs) == 2 else {}

        found = wait_until(pids, what="both processes")
        parent, child = named(walk_pid(found["parent"])), named(walk_pid(found["child"]))
        queue = "__main__.main.<locals>.queue"
        assert parent == {
            "__main__.main.<locals>.made": ("Lock", None, None),
            f"{queue}._rlock": ("Lock", queue, "Queue"),
            f"{queue}._wlock": ("Lock", queue, "Queue"),
            f"{queue}._sem": ("BoundedSemaphore", queue, "Queue"),
        }
        handed = {
            "__main__.child.<locals>.handed",
            "__main__.child.<locals>.queue._rlock",
            "__main__.child.<locals>.queue._wlock",
            "__main__.child.<locals>.queue._sem",
        }
        # a forked child still has its parent's frames below its own
        assert handed - set(child) <= ({"__main__.child.<locals>.handed"} if method == "fork" else set())


class EndsAfter:
    """Memory that can be read a number of times: the process ends in the middle of the walk."""

    def __init__(self, memory: Memory, reads: int) -> None:
        self.memory = memory
        self.left = reads

    def read(self, address: int, size: int) -> bytes | None:
        self.left -= 1
        return self.memory.read(address, size) if self.left >= 0 else None


@pytest.mark.parametrize("version", LAYOUT_CHANGES)
def test_a_process_may_end_at_any_read(version: str) -> None:
    with planted(Path(need(version))) as program, Memory(program.popen.pid) as memory:
        whole = walk(program.popen.pid, memory, budget_s=20.0)
        for reads in [*range(40), *range(40, whole.reads, 29)]:
            part = walk(program.popen.pid, EndsAfter(memory, reads), budget_s=20.0)
            assert part.semlocks.keys() <= whole.semlocks.keys()


class FreeThreaded(EndsAfter):
    """3.13 as a free-threaded build describes itself (pycore_runtime.h _Py_DebugOffsets.free_threaded)."""

    def read(self, address: int, size: int) -> bytes | None:
        data = self.memory.read(address, size)
        at = data.find(b"xdebugpy") if data else -1
        if data is None or at < 0 or data[at + 16 : at + 24] != bytes(8):
            return data
        return data[: at + 16] + b"\1" + data[at + 17 :]


def test_a_free_threaded_build_is_refused_with_a_reason() -> None:
    with planted(Path(need("3.13"))) as program, Memory(program.popen.pid) as memory:
        walked = walk(program.popen.pid, FreeThreaded(memory, 0))
    assert walked.reason
    assert "free-threaded" in walked.reason


@pytest.mark.parametrize("version", VERSIONS[:5])
def test_sys_modules_is_found_where_the_table_is_not_right(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Path(need(version))
    key = (3, int(version[2:]))
    monkeypatch.setitem(LAYOUTS, key, replace(LAYOUTS[key], modules=8))
    with planted(found) as program:
        assert _wrong(walk_pid(program.popen.pid), program.table["semlocks"]) == []


def test_a_version_without_a_layout_gives_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(LAYOUTS, sys.version_info[:2])
    with planted(Path(sys.executable)) as program:
        walked = walk_pid(program.popen.pid)
    assert walked.reason == f"no layout for CPython 3.{sys.version_info[1]}"


def test_a_process_without_an_interpreter_gives_a_reason() -> None:
    with start("sleep", "600") as (popen, _):
        exe = Path(f"/proc/{popen.pid}/exe")
        wait_until(lambda: "sleep" in os.readlink(exe) or "coreutils" in os.readlink(exe), what="the exec")
        walked = walk_pid(popen.pid)
    assert walked.reason == "no CPython in this process exports _PyRuntime"


FLASK = {
    "names_flask.db_lock": ("Lock", None, None),
    "names_flask.jobs._rlock": ("Lock", "names_flask.jobs", "Queue"),
    "names_flask.jobs._wlock": ("Lock", "names_flask.jobs", "Queue"),
    "names_flask.jobs._sem": ("BoundedSemaphore", "names_flask.jobs", "Queue"),
    "names_flask.app.config['LOCK']": ("RLock", None, None),
    "names_flask.app.extensions['cache']['lock']": ("Semaphore", None, None),
    "names_flask.app.repository.lock": ("Lock", None, None),
    "names_flask.app.view_functions['index'].<closure>.guard": ("Lock", None, None),
}


@pytest.mark.parametrize("preload", [True, False])
def test_the_locks_of_a_flask_application_under_gunicorn(preload: bool) -> None:
    pytest.importorskip("flask")
    options = ["--workers", "2", *(["--preload"] if preload else [])]
    with start_gunicorn("names_flask:app", *options) as server:
        workers = server.wait_workers(2)
        for pid in [server.pid, *workers] if preload else workers:
            walked = wait_until(lambda pid=pid: _complete(pid, FLASK), what="all names")  # the worker may still load
            assert named(walked) == FLASK
            assert [(lock.name, lock.kind) for lock in walked.thread_locks] == [("names_flask.private", "Lock")]


def _complete(pid: int, expected: dict[str, Any]) -> Walk | None:
    """While a worker loads the application, what it makes there may be known by the function that makes it alone."""
    walked = walk_pid(pid)
    return walked if named(walked).keys() >= expected.keys() else None


@pytest.mark.parametrize("preload", [True, False])
def test_application_of_a_factory_has_its_name_from_command_line(preload: bool) -> None:
    pytest.importorskip("flask")
    made = {
        "names_flask.create_app().config['LOCK']",
        "names_flask.create_app().view_functions['index'].<closure>.guard",
    }
    options = ["--workers", "1", *(["--preload"] if preload else [])]
    with start_gunicorn("names_flask:create_app()", *options) as server:
        (pid,) = server.wait_workers(1)
        walked = wait_until(lambda: _complete(pid, {**FLASK, **dict.fromkeys(made)}), what="all names")
        assert set(named(walked)) == set(FLASK) | made


def test_two_workers_are_seen_inside_the_same_threading_lock() -> None:
    pytest.importorskip("flask")
    with start_gunicorn("names_flask:app", "--workers", "2", "--preload") as server:
        workers = server.wait_workers(2)
        walked = walk_pid(server.pid)
        (private,) = walked.thread_locks

        def locked() -> int:
            states = []
            for pid in workers:
                with Memory(pid) as memory:
                    states.append(read_thread_lock(memory, private, walked.layout))  # type: ignore[arg-type]
            return sum(map(bool, states))

        assert locked() == 0
        with contextlib.ExitStack() as connections:
            for n in (1, 2):
                connection = connections.enter_context(server.connect())
                connection.sendall(b"GET /private HTTP/1.1\r\nHost: x\r\n\r\n")
                wait_until(lambda n=n: locked() == n, what=f"{n} workers inside the lock")


def test_the_locks_of_a_celery_worker_and_its_pool(tmp_path: Path) -> None:
    pytest.importorskip("celery")
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "names_celery",
        "worker",
        "--pool",
        "prefork",
        "--concurrency",
        "2",
    ]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]
    with start(*command, *quiet, env={"HOME": str(tmp_path)}) as (popen, log):
        wait_until(lambda: "ready." in log.read_text(errors="replace"), what="the celery worker")
        children = wait_until(lambda: [pid for pid in child_pids(popen.pid) if _has_semaphores(pid)], what="its pool")
        for pid in (popen.pid, children[0]):
            walked = walk_pid(pid)
            found = named(walked)
            assert found["names_celery.lock"] == ("Lock", None, None)
            assert found["names_celery.pool_lock"] == ("Lock", None, None)
            assert found["names_celery.work.__thing.run.<defaults>.guard"] == ("BoundedSemaphore", None, None)
            assert [lock.name for lock in walked.thread_locks] == ["names_celery.private"]
            # the pool's own queues belong to something of billiard's
            queues = {name: of for name, of in found.items() if name.endswith(("._rlock", "._wlock"))}
            assert len(queues) == 4, found
            assert {kind for _, _, kind in queues.values()} <= {"Pool", "AsynPool", "SimpleQueue"}


def test_the_queues_of_joblib_are_queues_like_others(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    program = (
        f"import os; os.environ['JOBLIB_TEMP_FOLDER'] = {str(tmp_path)!r}\n"  # else one is left in /dev/shm
        "import joblib, time\n"
        "if __name__ == '__main__':\n"
        "    joblib.Parallel(2)(joblib.delayed(os.getpid)() for _ in range(4))\n"
        "    print('READY', flush=True); time.sleep(600)"
    )
    (tmp_path / "work.py").write_text(program)
    with start(sys.executable, str(tmp_path / "work.py")) as (popen, log):
        wait_until(lambda: "READY" in log.read_text(), 40, "joblib")
        found = named(walk_pid(popen.pid))
        executor = "joblib.externals.loky.reusable_executor._executor"
        for piece in ("_call_queue._rlock", "_call_queue._wlock", "_call_queue._sem", "_result_queue._rlock"):
            kind, owner, _ = found[f"{executor}.{piece}"]
            assert (kind, owner) == ("BoundedSemaphore" if piece.endswith("_sem") else "Lock", executor)


def _has_semaphores(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "/dev/shm/sem." in Path(f"/proc/{pid}/maps").read_text()
    return False
