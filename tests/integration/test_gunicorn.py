"""Real gunicorns, started in every way that people start them, are found, understood and followed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support import PROGRAMS, Running, alive, child_pids, start, start_gunicorn, wait_until
from support.pythons import VERSIONS, need

from semtrace.cpython.arbiter import Arbiter, read_arbiter
from semtrace.errors import NoServer, NotPermitted, SeveralServers
from semtrace.linux.memory import Memory
from semtrace.linux.process import read_stat
from semtrace.linux.program import Status
from semtrace.linux.rights import remedy
from semtrace.model import ProcessId, Server
from semtrace.observe.observer import Observer
from semtrace.servers import discovery
from semtrace.servers.gunicornctl import completed
from semtrace.servers.kinds import gunicorn
from semtrace.servers.tree import Member, Tree

SCRIPT = str(Path(sys.executable).parent / "gunicorn")
# Without setproctitle a command line stays what it was.
PLAIN = {"PYTHONPATH": f"{PROGRAMS}/hidden:{PROGRAMS}"}


def found(pid: int) -> Server | None:
    """This server as find_servers sees it: other gunicorns may run on the machine."""
    return next((server for server in discovery.find_servers() if server.pid == pid), None)


def found_among(running: Running) -> list[int]:
    """The masters that find_servers sees among all processes of a test."""
    ours = {running.pid, running.popen.pid, *running.all_pids()}
    return [server.pid for server in discovery.find_servers() if server.pid in ours]


def roles(members: tuple[Member, ...]) -> list[str]:
    return sorted(member.role for member in members)


def follow(tree: Tree, *expected: str) -> tuple[Member, ...]:
    """Refresh until the roles are those."""
    last: list[tuple[Member, ...]] = []

    def reached() -> bool:
        last[:] = [tree.refresh()]
        return roles(last[0]) == sorted(expected)

    wait_until(reached, what=f"{sorted(expected)}, now {roles(last[0]) if last else None}")
    return last[0]


# -- the ways to start it


@pytest.mark.parametrize("env", [None, PLAIN], ids=["setproctitle", "plain"])
@pytest.mark.parametrize("command", [[SCRIPT], [sys.executable, "-m", "gunicorn"]], ids=["script", "module"])
def test_the_console_script_and_the_module(command, env):
    args = ["--no-control-socket", "-w", "2", "-k", "gthread", "-t", "21"]
    with start_gunicorn("hello:app", *args, command=command, env=env) as running:
        workers = running.wait_workers(2)
        server = found(running.pid)
        assert server is not None
        assert found_among(running) == [running.pid]
        assert (server.kind, server.application, server.bind) == ("gunicorn", "hello:app", (running.bind,))
        assert server.version == "27.0.1"
        if env is None:
            assert server.title == "gunicorn: master [hello:app]"
            assert b"-t" not in Path(f"/proc/{running.pid}/cmdline").read_bytes()  # the title has overwritten it
        assert (server.worker_class, server.timeout_s) == ("gthread", 21.0)
        for pid in [running.pid, *workers]:
            assert discovery.server_of(pid) == server


def test_who_names_its_launcher_means_the_gunicorn():
    launcher = [sys.executable, "-c", "import subprocess, sys; subprocess.call(sys.argv[1:])"]
    with start_gunicorn("hello:app", "-w", "1", wrapper=launcher) as running:
        assert running.pid != running.popen.pid
        assert discovery.server_of(running.popen.pid) == found(running.pid)


def test_configuration_file_leaves_settings_missing_on_command_line_unknown(tmp_path, monkeypatch):
    """Where the master's memory cannot be read, as of another user's."""
    monkeypatch.setattr(gunicorn, "effective", lambda server: server)
    (tmp_path / "hello.py").write_text((PROGRAMS / "hello.py").read_text())
    (tmp_path / "gunicorn.conf.py").write_text("timeout = 12\nworkers = 1\n")
    env = {"PYTHONPATH": f"{PROGRAMS}/hidden:{tmp_path}"}
    with start_gunicorn("hello:app", cwd=tmp_path, env=env) as running:
        server = found(running.pid)
        assert server is not None
        assert (server.application, server.timeout_s, server.worker_class) == ("hello:app", None, None)


@pytest.mark.parametrize("how", ["-c", "gunicorn.conf.py", "GUNICORN_CMD_ARGS"])
@pytest.mark.parametrize("env", [{}, PLAIN], ids=["setproctitle", "plain"])
def test_settings_missing_on_command_line_are_read_from_the_master(tmp_path, how, env):
    (tmp_path / "hello.py").write_text((PROGRAMS / "hello.py").read_text())
    said = "timeout = 12\nworker_class = 'sync'\nthreads = 2\n"
    args, more = [], {}
    if how == "-c":
        (tmp_path / "other.py").write_text(said)
        args = ["-c", str(tmp_path / "other.py")]
    elif how == "GUNICORN_CMD_ARGS":
        more = {"GUNICORN_CMD_ARGS": "--timeout 12 --threads 2"}
    else:
        (tmp_path / how).write_text(said)
    path = f"{env['PYTHONPATH']}:{tmp_path}" if env else str(tmp_path)
    with start_gunicorn("hello:app", *args, cwd=tmp_path, env={**env, **more, "PYTHONPATH": path}) as running:
        server = found(running.pid)
        assert server is not None
        assert (server.timeout_s, server.worker_class) == (12.0, "gthread")


def test_settings_that_a_reload_changed_are_read_again(tmp_path):
    config = tmp_path / "conf.py"
    config.write_text("timeout = 12\n")
    with start_gunicorn("hello:app", "-w", "1", "-c", str(config)) as running:
        running.wait_workers(1)
        observer = Observer(discovery.server_of(running.pid))
        try:
            assert observer.snapshot().server.timeout_s == 12.0
            config.write_text("timeout = 34\n")
            running.signal(signal.SIGHUP)
            wait_until(lambda: observer.snapshot().server.timeout_s == 34.0, what="the new timeout")
        finally:
            observer.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_settings_of_every_python(version):
    with start(need(version), str(PROGRAMS / "arbiter.py")) as (popen, log):
        wait_until(lambda: "READY" in log.read_text(), what="the program")
        with Memory(popen.pid) as memory:
            assert read_arbiter(popen.pid, memory) == Arbiter(29.0, "gunicorn.workers.gthread.ThreadWorker", 7)


def test_the_control_socket_knows_what_a_configuration_file_says(tmp_path):
    (tmp_path / "conf.py").write_text(
        "wsgi_app = 'hello:app'\ntimeout = 12\nworker_class = 'gthread'\nproc_name = 'web'\n"
        f"control_socket = '{tmp_path}/gunicorn.ctl'\n"
    )
    with start_gunicorn(None, "-c", str(tmp_path / "conf.py"), control_socket=True) as running:
        server = wait_until(lambda: (s := found(running.pid)) and gunicorn.control_socket(s) and s, what="the socket")
        assert (server.title, server.application) == ("gunicorn: master [web]", None)
        assert server.bind == (running.bind,)  # the control socket is no bind
        path = gunicorn.control_socket(server)
        after = wait_until(lambda: (c := completed(server, path)).worker_class and c, what="an answer")
        assert (after.worker_class, after.timeout_s) == ("gthread", 12.0)


@pytest.mark.parametrize("worker_class", ["sync", "gthread"])
def test_the_address_of_workers_that_listen_for_themselves(worker_class):
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # nobody else gets it meanwhile
        free.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{free.getsockname()[1]}"
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "--no-control-socket",
            "--reuse-port",
            "-k",
            worker_class,
            "-w",
            "2",
        ]
        with start(*command, "-b", bind, "hello:app") as (popen, _):
            wait_until(lambda: (server := found(popen.pid)) and server.bind == (bind,), what="the address")


def test_a_stopped_server_is_found_and_does_not_hang_us(tmp_path):
    args = ["--control-socket", f"{tmp_path}/gunicorn.ctl"]
    with start_gunicorn("hello:app", *args, control_socket=True) as running:
        server = wait_until(lambda: (s := found(running.pid)) and gunicorn.control_socket(s) and s, what="the socket")
        path = gunicorn.control_socket(server)
        running.signal(signal.SIGSTOP)
        wait_until(lambda: (s := read_stat(running.pid)) and s.state == "stopped", what="the stop")
        assert completed(server, path) == server
        assert found(running.pid) == server


def test_a_daemon():
    with start_gunicorn("hello:app", "--daemon", "-w", "1", daemon_log=True) as running:
        assert running.pid != running.popen.pid
        (worker,) = running.wait_workers(1)
        assert found_among(running) == [running.pid]
        assert discovery.server_of(worker).pid == running.pid


def test_a_custom_launcher_under_another_name():
    command = [sys.executable, str(PROGRAMS / "serve.py"), "127.0.0.1:0"]
    with start_gunicorn(None, command=command, bind=None, env=PLAIN) as running:
        workers = running.wait_workers(2)
        server = found(running.pid)
        assert server is not None
        assert (server.title, server.application) == ("serve.py 127.0.0.1:0", None)
        assert server.bind == (running.bind,)
        assert discovery.server_of(workers[0]) == server


@pytest.mark.parametrize(
    "wrapper",
    [["bash", "-c", '"$@"; exit $?', "bash"], ["env", "A=1"], ["nice", "-n", "1"]],
    ids=["bash", "env", "nice"],
)
def test_a_wrapper_is_never_the_master(wrapper):
    with start_gunicorn("hello:app", wrapper=wrapper, env=PLAIN) as running:
        running.wait_workers(1)
        assert found_among(running) == [running.pid]
        if running.popen.pid != running.pid:
            with pytest.raises(NoServer) as caught:
                discovery.server_of(running.popen.pid)
            assert f"semtrace {running.pid}" in caught.value.remedy


@pytest.mark.parametrize("command", [["tail", "-f", "gunicorn.log"], ["bash", "-c", "sleep 99; : gunicorn a:b"]])
def test_what_only_mentions_gunicorn_is_no_server(command, tmp_path):
    (tmp_path / "gunicorn.log").touch()
    with start(*command, cwd=tmp_path) as (popen, _):
        assert found(popen.pid) is None
        with pytest.raises(NoServer, match="not a Python process"):
            discovery.server_of(popen.pid)


@pytest.mark.parametrize("worker_class", ["gthread", "gevent", "uvicorn_worker.UvicornWorker", "asgi"])
def test_every_kind_of_worker_has_its_role_and_its_heartbeat(worker_class):
    if worker_class == "gevent":
        pytest.importorskip("gevent")
    app = "hello:asgi" if worker_class in ("asgi", "uvicorn_worker.UvicornWorker") else "hello:app"
    with start_gunicorn(app, "-w", "2", "-k", worker_class, env=PLAIN) as running:
        running.wait_workers(2)
        server = found(running.pid)
        assert server is not None
        assert server.worker_class == worker_class
        tree = Tree(server)
        members = follow(tree, "master", "worker", "worker")
        assert members[0].pid == running.pid
        assert members[0].heartbeat_path is None
        wait_until(lambda: all(m.last_heartbeat_s is not None for m in tree.refresh()[1:]), what="heartbeats")
        assert all(0 <= (m.last_heartbeat_s or 0) < 60 for m in tree.refresh())


@pytest.mark.parametrize("env", [None, PLAIN], ids=["setproctitle", "plain"])
def test_the_dirty_arbiter_and_its_workers(env):
    args = ["-w", "2", "--dirty-app", "hello_dirty:Idle", "--dirty-workers", "2"]
    with start_gunicorn("hello:app", *args, env=env) as running:
        server = wait_until(lambda: found(running.pid), what="the server")
        tree = Tree(server)
        members = follow(tree, "master", "worker", "worker", "dirty-arbiter", "dirty-worker", "dirty-worker")
        beating = [m.role for m in members if m.heartbeat_path]
        assert sorted(beating) == ["dirty-worker", "dirty-worker", "worker", "worker"]
        assert found_among(running) == [running.pid]
        server = found(running.pid)  # by now it has its title
        for member in members:
            assert discovery.server_of(member.pid) == server


def test_after_usr2_there_are_two_servers():
    with start_gunicorn("hello:app", "-w", "1") as running:
        running.wait_workers(1)
        running.signal(signal.SIGUSR2)
        masters = wait_until(lambda: len(pids := found_among(running)) == 2 and pids, what="the second master")
        set_up = ["master", "worker"]
        wait_until(lambda: roles(Tree(discovery.server_of(masters[1])).refresh()) == set_up, what="it to set itself up")
        old, new = (discovery.server_of(pid) for pid in masters)
        assert old.pid == running.pid
        assert read_stat(new.pid).ppid == old.pid
        assert old.bind == new.bind == (running.bind,)
        assert old.application == new.application == "hello:app"
        a, b = follow(Tree(old), "master", "worker"), follow(Tree(new), "master", "worker")
        assert not {m.id for m in a} & {m.id for m in b}
        assert discovery.server_of(b[1].pid).pid == new.pid


def test_what_had_a_masters_handlers_before_its_exec_is_none(monkeypatch):
    """As the process that a master forks to start a new one."""
    told = iter([Status(1, -1), Status(1, 0)])
    monkeypatch.setattr(gunicorn.program, "read_status", lambda pid: next(told))
    monkeypatch.setattr(gunicorn, "_looks_like_master", lambda pid: True)
    monkeypatch.setattr(gunicorn, "lineage", lambda stat: [stat])
    assert not gunicorn.is_master(read_stat(os.getpid()))


# -- workers that come and go


@pytest.fixture
def followed():
    with start_gunicorn("hello:app", "-w", "2") as running:
        running.wait_workers(2)
        tree = Tree(discovery.server_of(running.pid))
        follow(tree, "master", "worker", "worker")
        yield running, tree


def worker_ids(tree: Tree) -> set[ProcessId]:
    return {member.id for member in tree.refresh() if member.role == "worker"}


def test_ttin_and_ttou_add_and_remove_a_worker(followed):
    running, tree = followed
    running.signal(signal.SIGTTIN)
    follow(tree, "master", "worker", "worker", "worker")
    running.signal(signal.SIGTTOU)
    follow(tree, "master", "worker", "worker")


def test_hup_replaces_all_workers(followed):
    running, tree = followed
    before = worker_ids(tree)
    running.signal(signal.SIGHUP)
    wait_until(lambda: len(now := worker_ids(tree)) == 2 and not now & before, what="two new workers")
    assert tree.alive


def test_a_killed_worker_is_replaced(followed):
    _, tree = followed
    before = worker_ids(tree)
    victim = next(iter(before))
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: len(now := worker_ids(tree)) == 2 and victim not in now, what="its successor")
    assert len(worker_ids(tree) & before) == 1


def test_a_worker_that_hangs_is_seen_to_be_replaced():
    with start_gunicorn("hello:app", "-w", "1", "-t", "1") as running:
        running.wait_workers(1)
        tree = Tree(discovery.server_of(running.pid))
        before = worker_ids(tree)
        with running.connect() as connection:
            connection.sendall(b"GET /hang HTTP/1.0\r\n\r\n")
            wait_until(lambda: len(now := worker_ids(tree)) == 1 and not now & before, what="its successor")


def test_max_requests_replaces_a_worker():
    with start_gunicorn("hello:app", "-w", "1", "--max-requests", "1") as running:
        running.wait_workers(1)
        tree = Tree(discovery.server_of(running.pid))
        before = worker_ids(tree)
        assert b"200 OK" in running.get()
        wait_until(lambda: len(now := worker_ids(tree)) == 1 and not now & before, what="its successor")


def test_the_server_ends_and_a_stuck_worker_stays():
    with start_gunicorn("hello:app", "-w", "1", "-t", "600") as running:
        (worker,) = running.wait_workers(1)
        tree = Tree(discovery.server_of(running.pid))
        follow(tree, "master", "worker")
        os.kill(worker, signal.SIGSTOP)
        os.kill(running.pid, signal.SIGKILL)
        wait_until(lambda: [m.pid for m in tree.refresh()] == [worker], what="the orphan alone")
        assert not tree.alive
        assert tree.refresh()[0].role == "worker"
        assert found(worker) is None
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: tree.refresh() == (), what="nobody")


def test_children_of_a_worker_belong_to_it_unlike_other_programs():
    with start_gunicorn("hello_children:app", "-c", "python:hello_children", "-w", "1", env=PLAIN) as running:
        (booted,) = running.wait_workers(1)
        last = "the last of its children"
        wait_until(lambda: "sleep" in [s.comm for pid in child_pids(booted) if (s := read_stat(pid))], what=last)
        tree = Tree(discovery.server_of(running.pid))
        members = follow(tree, "master", "worker", "process", "process")
        (worker,) = (m for m in members if m.role == "worker")
        assert {m.stat.ppid for m in members if m.role == "process"} == {worker.pid}
        for member in members:
            assert discovery.server_of(member.pid).pid == running.pid


def test_a_new_tree_keeps_the_known_processes_that_live(followed):
    _, tree = followed
    known = [member.id for member in tree.refresh()]
    gone = ProcessId(known[1].pid, known[1].start_ticks - 1)
    again = Tree(tree.server, [*known, gone])
    assert {member.id for member in again.refresh()} == set(known)


# -- any other Python


ADOPTS = """
import ctypes, os, signal, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
if len(sys.argv) > 3:
    os.dup2(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=2).stdin.fileno(), 1)
started = subprocess.Popen([sys.executable, sys.argv[1], sys.argv[2]])
signal.pause()
"""


@pytest.mark.parametrize("adopter", ["nobody of ours", "a Python", "a Python that passes on its output"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_spawned_child_of_dead_parent_does_not_join_its_adopter(method, adopter):
    program = str(PROGRAMS / "names_spawned.py")
    argv = [sys.executable, program, method]
    if adopter != "nobody of ours":
        argv = [sys.executable, "-c", ADOPTS, program, method] + (["on"] if "output" in adopter else [])
    with start(*argv) as (_, log):

        def pids():
            return dict(line.split() for line in log.read_text().splitlines() if line.startswith(("parent ", "child ")))

        who = wait_until(lambda: found if len(found := pids()) == 2 else None, what="both processes")
        parent, child = int(who["parent"]), int(who["child"])
        assert discovery.server_of(child).pid == parent
        os.kill(parent, signal.SIGKILL)
        wait_until(lambda: not alive(parent), what="the parent to end")
        if method == "spawn":
            assert discovery.server_of(child).pid == child
        else:  # a forkserver's child was forked by it, and it ends when its server does
            assert discovery.server_of(child).pid not in (1, os.getpid())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_python_tree_is_found_from_each_of_its_processes(method):
    command = [sys.executable, str(PROGRAMS / "tree.py"), method]
    with started_tree(command) as (root, pids):
        *members, sleeper = pids
        server = discovery.server_of(root)
        assert (server.kind, server.pid, server.title) == ("python", root, f"tree.py {method}")
        for pid in members:
            assert discovery.server_of(pid) == server
        tree = Tree(server)
        wait_until(lambda: {m.pid for m in tree.refresh()} >= {root, *members}, what="all members")
        seen = tree.refresh()
        assert sleeper not in {m.pid for m in seen}
        assert {m.role for m in seen} - {"forkserver"} == {"process"}
        assert sum(m.role == "forkserver" for m in seen) == (method == "forkserver")
        # forkserver adds its server; the resource tracker is none of them
        assert len(seen) == 1 + len(members) + (method == "forkserver")


@contextlib.contextmanager
def started_tree(command):
    with start(*command, stdin_open=True) as (popen, log):
        line = wait_until(lambda: log.read_text().endswith("\n") and log.read_text(), what="the tree's pids")
        yield popen.pid, [int(word) for word in line.split()]


def test_python_started_by_a_python_is_a_separate_server():
    # exec'd, not forked: this test's own process is no part of it
    with start(sys.executable, "-c", "import time; time.sleep(3600)") as (popen, _):
        wait_until(lambda: discovery.server_of(popen.pid).pid == popen.pid, what="its exec")


def test_other_programs_have_clear_words():
    with start("sleep", "3600") as (popen, _):
        wait_until(lambda: (s := read_stat(popen.pid)) and s.comm == "sleep", what="the exec of sleep")
        with pytest.raises(NoServer, match=rf"process {popen.pid} \(sleep\) is not a Python process"):
            discovery.server_of(popen.pid)
        tree = Tree(Server("python", ProcessId(popen.pid, 1), "x", 0.0, "x"))
        assert tree.refresh() == ()
        assert not tree.alive


def test_pids_that_are_nothing():
    for pid in (0, -1, 2**22 + 1, 2**70):
        with pytest.raises(NoServer, match="there is no process"):
            discovery.server_of(pid)


def test_a_zombie_has_ended():
    child = subprocess.Popen(["true"])
    wait_until(lambda: (s := read_stat(child.pid)) and s.state == "zombie", what="its end")
    with pytest.raises(NoServer, match="has ended"):
        discovery.server_of(child.pid)
    child.wait()


def test_one_that_ends_while_it_is_looked_at_has_ended(monkeypatch):
    """It is no question of rights that it cannot be read any more."""
    with subprocess.Popen(["sleep", "600"]) as child:

        def ends(pid):
            child.kill()
            wait_until(lambda: not alive(child.pid), what="its end")

        monkeypatch.setattr(discovery.processes, "is_python", ends)
        with pytest.raises(NoServer, match="has ended"):
            discovery.server_of(child.pid)


def test_one_that_has_no_memory_any_more_has_ended(monkeypatch):
    """The kernel takes it away first, and only then calls the process a zombie."""
    monkeypatch.setattr(discovery, "read_stat", lambda pid: (s := read_stat(pid)) and replace(s, threads=1, vsize=0))
    with pytest.raises(NoServer, match="has just ended"):
        discovery.server_of(os.getpid())


def test_a_kernel_thread_is_no_python():
    stat = read_stat(2)
    if stat is None or not stat.flags & 0x00200000:
        pytest.skip("pid 2 is no kernel thread here")
    with pytest.raises(NoServer, match="kernel"):
        discovery.server_of(2)


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user")
def test_server_of_another_user_is_found_by_what_is_visible():
    code = """
import os, sys
from semtrace.servers import discovery, gunicorn_options
from semtrace.servers.tree import Tree
# Both import all that they need, which the other user may not read.
discovery.server_of(int(sys.argv[1]))
gunicorn_options.parse(["-b", ":0", "x:y"])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
server = discovery.server_of(int(sys.argv[1]))
tree = Tree(server)
print(server.kind, server.pid, server.pid in [s.pid for s in discovery.find_servers()])
print(sorted(m.role for m in tree.refresh()), {m.last_heartbeat_s for m in tree.refresh()})
"""
    for env in (None, PLAIN):
        with start_gunicorn("hello:app", "-w", "2", env=env) as running:
            running.wait_workers(2)
            environ = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
            command = [sys.executable, "-c", code, str(running.pid)]
            done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd="/")
            assert done.stderr == ""
            assert done.stdout.splitlines() == [
                f"gunicorn {running.pid} True",
                "['master', 'worker', 'worker'] {None}",
            ]


# -- choosing


def test_choose_without_a_pid(monkeypatch):
    one = Server("gunicorn", ProcessId(7, 1), "gunicorn: master [a:b]", 0.0, "x")
    two = Server("gunicorn", ProcessId(8, 1), "gunicorn: master [c:d]", 0.0, "x")
    monkeypatch.setattr(discovery, "find_servers", lambda: ())
    with pytest.raises(NoServer) as none:
        discovery.choose(None)
    assert "gunicorn myapp:app" in none.value.remedy
    monkeypatch.setattr(discovery, "find_servers", lambda: (one,))
    assert discovery.choose(None) == one
    monkeypatch.setattr(discovery, "find_servers", lambda: (one, two))
    with pytest.raises(SeveralServers, match=r"7 \(gunicorn: master \[a:b\]\)") as several:
        discovery.choose(None)
    assert several.value.pids == (7, 8)


def test_not_permitted_names_the_command(monkeypatch):
    monkeypatch.setattr(discovery.processes, "is_python", lambda pid: None)
    monkeypatch.setattr(discovery, "_kind", lambda stat: None)
    with pytest.raises(NotPermitted) as caught:
        discovery.server_of(os.getpid())
    assert caught.value.remedy == remedy(os.getpid())
    assert alive(os.getpid())
