"""Real servers of each kind: they are listed with what their processes do, and nothing else is."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import PATIENCE_S, PROGRAMS, start, wait_until

from semtrace.commands import ps
from semtrace.commands.ps import document, lines, listing_of
from semtrace.errors import NoServer
from semtrace.model import Role, Server
from semtrace.servers import discovery
from semtrace.servers.tree import Tree

CASES = Path(__file__).parents[1] / "cases" / "programs"

OWN_UWSGI = Path(sys.executable).parent / "uwsgi"
UWSGI = OWN_UWSGI if OWN_UWSGI.exists() else Path("/usr/bin/uwsgi")
"""Debian's has its Python in a plugin, and no distribution that shows its version."""
PLUGIN = Path("/usr/lib/uwsgi/plugins/python3_plugin.so")

SHARING = """
import multiprocessing, os, sys, time
gate = multiprocessing.Lock()
if os.fork() and os.fork():
    sys.stdin.read()
else:
    time.sleep(600)
"""
ALONE = "import multiprocessing, sys; gate = multiprocessing.Lock(); sys.stdin.read()"
FORKING = "import os, sys, time; pid = os.fork(); sys.stdin.read() if pid else time.sleep(600)"


@dataclass(frozen=True)
class Started:
    """A server that a test starts: its module, its command, and the roles that it is to have."""

    kind: str
    arguments: str
    roles: Mapping[Role, int]
    application: str | None = None
    needs: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    def command(self, folder: Path) -> list[str]:
        arguments = self.arguments.replace("{folder}", str(folder)).split()
        if self.kind == "uwsgi":
            return [str(UWSGI), *(() if UWSGI == OWN_UWSGI else ("--plugin", "python3")), *arguments]
        return [sys.executable, "-m", *arguments]


WEB: Mapping[Role, int] = {"master": 1, "worker": 2}
KINDS = [
    Started("uvicorn", "uvicorn --workers 2 --uds {folder}/s asyncio_app:app", WEB, "asyncio_app:app"),
    Started("hypercorn", "hypercorn -w 2 -b unix:{folder}/s asyncio_app:app", WEB, "asyncio_app:app"),
    Started("granian", "granian --interface asgi --workers 2 --uds {folder}/s asyncio_app:app", WEB, "asyncio_app:app"),
    Started("celery", "celery -A celery_idle worker -c 2", WEB, "celery_idle"),
    Started("dramatiq", "dramatiq dramatiq_idle -p 2 -t 1", WEB, "dramatiq_idle"),
    Started(
        "huey",
        "huey.bin.huey_consumer huey_idle.huey -k process -w 2",
        {"master": 1, "scheduler": 1, "worker": 2},
        "huey_idle.huey",
        env={"HUEY": "{folder}/huey.db"},
    ),
    Started(
        "uwsgi",
        "--master -p 2 --mule --http-socket {folder}/s --wsgi-file uwsgi_app.py",
        {"master": 1, "worker": 2, "process": 1},
        "uwsgi_app.py",
    ),
]


@pytest.mark.parametrize("started", KINDS, ids=lambda started: started.kind)
def test_server_is_listed_with_what_its_processes_do(started: Started, tmp_path: Path) -> None:
    there = started.kind == "uwsgi" and (OWN_UWSGI.exists() or PLUGIN.exists())
    if not (there or importlib.util.find_spec(started.kind)):
        pytest.skip(f"{started.kind} is not installed")
    env = {name: value.replace("{folder}", str(tmp_path)) for name, value in started.env.items()}
    with start(*started.command(tmp_path), cwd=CASES, env=env) as (popen, log):
        try:
            wait_until(lambda: _roles(popen.pid) == started.roles, what="its processes", pause=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {log.read_text()[-2000:]}") from None
        server = _found(popen.pid)
        assert server is not None
        assert (server.kind, server.application) == (started.kind, started.application)
        assert server.version is not None or (started.kind == "uwsgi" and UWSGI != OWN_UWSGI)
        members = Tree(server).refresh()
        assert {discovery.server_of(member.pid).id for member in members} == {server.id}


def test_scripts_are_listed_only_if_they_share_a_semaphore() -> None:
    with (
        start(sys.executable, "-c", SHARING, stdin_open=True) as (sharing, _),
        start(sys.executable, "-c", ALONE, stdin_open=True) as (alone, _),
        start(sys.executable, "-c", FORKING, stdin_open=True) as (forking, _),
    ):
        server = wait_until(lambda: _found(sharing.pid), what="the script", pause=0.1)
        assert server.kind == "python"
        listed = {each.pid for each in discovery.find_servers()}
        assert not listed & {alone.pid, forking.pid}
        assert sharing.pid not in {each.pid for each in discovery.gunicorns()}


def test_other_programs_that_mention_a_server_are_none(tmp_path: Path) -> None:
    shell = ["sh", "-c", "sleep 600 & wait; celery -A jobs worker"]
    named = ["sh", "-c", 'exec -a "rq:worker:1: Listening on x" sleep 600']
    with start(*shell) as (one, _), start("bash", *named[1:]) as (other, _):
        wait_until(lambda: b"rq:worker" in Path(f"/proc/{other.pid}/cmdline").read_bytes(), what="its title")
        listed = {each.pid for each in discovery.find_servers()}
        assert not listed & {one.pid, other.pid}


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user")
def test_server_of_another_user_is_listed_by_its_command_line(tmp_path: Path) -> None:
    code = """
import os, sys
from semtrace.servers import discovery
discovery.find_servers()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print([(s.kind, s.application) for s in discovery.find_servers() if s.pid == int(sys.argv[1])])
"""
    with start(sys.executable, "-m", "dramatiq", "dramatiq_idle", "-p", "1", cwd=CASES) as (popen, _):
        wait_until(lambda: _roles(popen.pid)["worker"], what="its worker", pause=0.1)
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-c", code, str(popen.pid)]
        done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd="/")
        assert (done.stderr, done.stdout) == ("", "[('dramatiq', 'dramatiq_idle')]\n")


def test_ps_tells_how_a_server_fares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ps, "_HEALTH_S", PATIENCE_S)
    with start(sys.executable, str(PROGRAMS / "tree.py"), "spawn", stdin_open=True) as (popen, log):
        wait_until(lambda: len(log.read_text().split()) == 5, what="its children")
        listing = listing_of(discovery.server_of(popen.pid))
        assert listing.health is not None
        made = json.loads(json.dumps(document([listing], 0.0)))["servers"][0]
        assert made["health"]["of_workers"] == sum(made["health"]["states"].values()) == 2
        assert made["health"]["verdict"] in (None, "ok")
        assert Counter(each["role"] for each in made["processes"]) == {"process": 5, "resource-tracker": 1}
        (said,) = [line for line in lines([listing], 0.0) if "health" in line]
        assert "OK" not in said


def _found(pid: int) -> Server | None:
    return next((server for server in discovery.find_servers() if server.pid == pid), None)


def _roles(pid: int) -> Counter[str]:
    try:
        server = discovery.server_of(pid)
    except NoServer:  # Debian's uWSGI has not loaded its Python yet
        return Counter()
    return Counter(member.role for member in Tree(server).refresh())


MANAGING = """
import multiprocessing, signal, sys, threading, time
from multiprocessing.managers import SyncManager

class Own(SyncManager):
    pass

def idle():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=(600,)).start()
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    manager = Own(ctx=context)
    manager.start()
    children = [context.Process(target=idle, daemon=True) for _ in range(2)]
    for child in children:
        child.start()
    print(manager._process.pid, *(child.pid for child in children), flush=True)
    sys.stdin.read()
"""


HELPERS = {"fork": (), "spawn": ("resource-tracker",), "forkserver": ("resource-tracker", "forkserver")}


@pytest.mark.parametrize("method", HELPERS)
def test_process_of_a_manager_is_no_worker(method: str, tmp_path: Path) -> None:
    """Not even next to workers that ignore INT and have several threads, as it does."""
    script = tmp_path / "managing.py"
    script.write_text(MANAGING)
    with start(sys.executable, str(script), method, stdin_open=True) as (popen, log):
        manager, *_ = map(int, wait_until(lambda: len(log.read_text().split()) == 3 and log.read_text().split()))
        wait_until(lambda: _roles(popen.pid)["manager"], what="the manager", pause=0.1)
        listing = listing_of(discovery.server_of(popen.pid))
        roles = {each.pid: each.role for each in listing.processes}
        assert roles[manager] == "manager"
        assert Counter(roles.values()) == {"process": 3, "manager": 1, **dict.fromkeys(HELPERS[method], 1)}
        assert listing.health is None or len(listing.health.line.workers) == 2


APP = """
import multiprocessing, os, signal, sys, time

async def app(scope, receive, send):
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})

def idle():
    time.sleep(600)

def uvicorn(path):
    import uvicorn
    uvicorn.run("serving:app", uds=path, workers=2)

def hypercorn(path):
    from hypercorn.config import Config
    from hypercorn.run import run
    config = Config()
    config.application_path, config.bind, config.workers = "serving:app", ["unix:" + path], 2
    run(config)

def granian(path):
    from pathlib import Path
    from granian import Granian
    Granian("serving:app", uds=Path(path), workers=2, interface="asgi").serve()

def idly(path):
    import granian, hypercorn.run, uvicorn
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    print("ready", flush=True)
    sys.stdin.read()

if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=idle, daemon=True).start()
    multiprocessing.get_context("spawn").Process(target=idle, daemon=True).start()
    globals()[sys.argv[1]](sys.argv[2])
"""


@pytest.mark.parametrize("kind", ["uvicorn", "hypercorn", "granian"])
def test_script_that_calls_a_server_is_one_with_its_workers(kind: str, tmp_path: Path) -> None:
    """Its other children are none of the server's."""
    pytest.importorskip(kind)
    (tmp_path / "serving.py").write_text(APP)
    with start(sys.executable, "serving.py", kind, f"{tmp_path}/s", cwd=tmp_path) as (popen, log):
        try:
            wait_until(lambda: _roles(popen.pid) == {"master": 1, "worker": 2, "process": 2}, what="them", pause=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {log.read_text()[-2000:]}") from None
        server = _found(popen.pid)
        assert server is not None
        assert server.kind == kind
        assert server.version is not None


def test_script_that_only_imports_servers_is_a_python(tmp_path: Path) -> None:
    pytest.importorskip("granian")
    (tmp_path / "serving.py").write_text(APP)
    with start(sys.executable, "serving.py", "idly", "-", cwd=tmp_path, stdin_open=True) as (popen, log):
        wait_until(lambda: "ready" in log.read_text(), what="the script")
        assert discovery.server_of(popen.pid).kind == "python"
