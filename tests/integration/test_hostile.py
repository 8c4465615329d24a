"""What a hostile local user tries on root's semtrace: nothing run, nothing written, nothing hung, nothing moved."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest
from support import PATIENCE_S, PROGRAMS, alive, start_ticks
from support.commands import SOURCE
from support.hostile import Forger, in_own_namespace, needs_root, new_user
from support.targets import observing, only, target, until

from semtrace.errors import SemtraceError
from semtrace.instrument import bootstrap
from semtrace.linux.maps import SemaphoreMaps
from semtrace.model import ProcessId, SemId
from semtrace.observe.observer import Observer, settle
from semtrace.repairs import repair
from semtrace.repairs.audit import Audit
from semtrace.servers.discovery import server_of
from semtrace.tracing import tracedirs
from semtrace.tracing.polling import StateFilePoller
from semtrace.tracing.reporters import Mapped
from semtrace.tracing.statefiles import MOST_DEAD
from semtrace.tui.remembered import Order, Remembered
from semtrace.web.view_process import DRIVER
from semtrace.web.view_process import command as session_command
from semtrace.wire import words
from semtrace.wire.place import SHM_VARIABLE

pytestmark = needs_root


@pytest.fixture(scope="module")
def attacker() -> Iterator[int]:
    with new_user() as user:
        yield user


class Mixed:
    """The running mixed_users.py."""

    def __init__(self, said: list[list[str]]) -> None:
        told = {words[0]: words[1:] for words in said}
        self.root, self.child = (_process(int(told[who][0])) for who in ("root", "child"))
        maps = SemaphoreMaps(self.root.pid)
        at = {mapped.address: mapped.id for mapped in maps.semaphores()}
        maps.close()
        self.payments, self.orders = (at[int(address)] for address in told["root"][1:])


def _process(pid: int) -> ProcessId:
    return ProcessId(pid, start_ticks(pid) or 0)


@contextmanager
def mixed(user: int) -> Iterator[Mixed]:
    command = [sys.executable, str(PROGRAMS / "mixed_users.py"), str(user)]
    env = {**os.environ, "PYTHONPATH": SOURCE}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True) as popen:
        assert popen.stdout
        assert popen.stdin
        yield Mixed([popen.stdout.readline().split() for _ in range(2)])
        popen.stdin.close()


def names(observer: Observer) -> dict[SemId, str | None]:
    return {lock.id: lock.name for lock in settle(observer).locks}


# ---- who may speak for whom


@in_own_namespace
def test_another_users_files_rename_no_lock(attacker: int) -> None:
    with mixed(attacker) as server:
        swapped = {server.payments: "orders", server.orders: "payments"}
        forger = Forger(attacker, server.child)
        for process in (server.root, server.child):
            forger.file(process, swapped, file_since=time.monotonic_ns())
        observer = Observer(server_of(server.root.pid))
        try:
            assert names(observer) == {server.payments: "payments", server.orders: "orders"}
            locks = observer.snapshot().locks
            assert repair.find(locks, "payments", server.root.pid).id == server.payments
            assert any("1 file not believed" in each.error for each in observer.snapshot().problems)
        finally:
            observer.close()


@in_own_namespace
def test_nobody_else_says_that_a_process_holds_a_lock(attacker: int) -> None:
    with mixed(attacker) as server:
        forger = Forger(attacker, server.child)
        init = ProcessId(1, start_ticks(1) or 0)
        for process in (init, server.root, server.child):
            forger.file(process, {server.payments: "x"}, SINCE=time.monotonic_ns(), WHO=words.who(1, 1))
        poller = StateFilePoller()
        members = (server.root, server.child)
        state = poller.state(members, Mapped({server.payments: (server.root,)}))
        poller.close()
        assert state is not None
        assert init not in state.files
        assert all(book.since_ns is None for book in state.files[server.root].locks)
        assert state.files[server.child].locks == (), "it does not map the lock that it speaks of"


@in_own_namespace
def test_thousands_of_files_cost_little_and_hide_no_members(attacker: int) -> None:
    with mixed(attacker) as server:
        forger = Forger(attacker, server.child)
        forger.file(server.child, {server.orders: "mine"})
        for number in range(2000):
            forger.sparse(ProcessId(4_000_000 + number, 1))
        for number in range(MOST_DEAD + 50):
            forger.file(ProcessId(5_000_000 + number, 1), {server.orders: "dead"})
        poller = StateFilePoller()
        state = poller.state((server.root, server.child))
        poller.close()
        assert state is not None
        assert {server.root, server.child} <= state.files.keys()
        assert len(state.files) <= MOST_DEAD + 2


@in_own_namespace
def test_hundreds_of_directories_take_few_descriptors(attacker: int) -> None:
    with mixed(attacker) as server:
        for number in range(300):
            forger = Forger(attacker, ProcessId(4_000_000 + number, 1))
            forger.file(server.child, {server.orders: "mine"})
            forger.sparse(ProcessId(5_000_000 + number, 1))
        directories = list(tracedirs.find((server.root, server.child)))
        try:
            assert [each.uid for each in directories].count(attacker) == 2
            assert [each.uid for each in directories].count(0) == 1
        finally:
            for each in directories:
                each.close()


@in_own_namespace
def test_directory_that_anybody_makes_keeps_no_server_untraced(attacker: int) -> None:
    Path("/dev/shm/semtrace-0").mkdir(0o700)
    os.chown("/dev/shm/semtrace-0", attacker, -1)
    with mixed(attacker) as server:
        observer = Observer(server_of(server.root.pid))
        try:
            assert set(names(observer).values()) == {"payments", "orders"}
        finally:
            observer.close()
    assert not list(Path("/run/semtrace-0").glob("*/*.state"))


# ---- what root writes


@in_own_namespace
def test_audit_file_leads_to_nobody_elses_choice(attacker: int) -> None:
    precious = Path("/run/precious")
    precious.write_text("root's\n")
    theirs = Path("/dev/shm/theirs")
    theirs.mkdir(0o755)
    os.chown(theirs, attacker, -1)
    (theirs / "link").symlink_to(precious)
    (theirs / "folder").symlink_to("/run")
    Path("/dev/shm/link").symlink_to(precious)
    os.lchown("/dev/shm/link", attacker, -1)
    Path("/dev/shm/planted").write_text("")
    os.chown("/dev/shm/planted", attacker, -1)
    Path("/dev/shm/twice").write_text("")
    os.link("/dev/shm/twice", "/dev/shm/again")
    os.mkfifo("/dev/shm/fifo")
    everybodys = Path("/run/everybodys")
    everybodys.mkdir()
    everybodys.chmod(0o777)
    refused = [theirs / "new", theirs / "link", theirs / "folder" / "precious", everybodys / "new"]
    refused += [Path("/dev/shm", name) for name in ("link", "planted", "twice", "fifo")]
    for path in refused:
        with pytest.raises(SemtraceError, match="cannot open the audit file"):
            Audit(str(path), print)
    assert precious.read_text() == "root's\n"
    with Audit("/dev/shm/audit", print):
        assert os.stat("/dev/shm/audit").st_mode & 0o777 == 0o600


@in_own_namespace
def test_nothing_is_remembered_in_another_users_home(attacker: int) -> None:
    """As after `sudo -E`."""
    home = Path("/dev/shm/home")
    home.mkdir()
    (home / "semtrace").symlink_to("/run")
    for path in (home, home / "semtrace"):
        os.chown(path, attacker, -1, follow_symlinks=False)
    Remembered(home / "semtrace" / "view.json").keep("locks", Order("NAME", True))
    Remembered(home / "other" / "view.json").keep("locks", Order("NAME", True))
    assert os.listdir("/run") == []
    assert os.listdir(home) == ["semtrace"]


# ---- what root waits for


needs_fuse = pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="needs FUSE")


@contextmanager
def withholding(user: int, *ways: str, name: str = "withholding.py") -> Iterator[str]:
    """The PID of the running withholding.py, started under this name."""
    point, program = Path("/dev/shm/point"), Path("/dev/shm", name)
    point.mkdir()
    program.symlink_to(PROGRAMS / "withholding.py")
    command = [sys.executable, str(program), str(point), str(user), *ways]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as popen:
        assert popen.stdout
        yield popen.stdout.readline().split()[1]
        assert popen.stdin
        popen.stdin.close()


def semtrace(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "semtrace", *arguments]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, text=True, timeout=PATIENCE_S
    )


@pytest.mark.slow
@needs_fuse
@in_own_namespace
def test_file_system_that_withholds_a_read_stops_nobody(attacker: int) -> None:
    with withholding(attacker) as pid:
        for arguments in (("dump", pid), ("doctor", "--for", "0.5", pid)):
            done = semtrace(*arguments)
            assert f"process {pid} blocks its readers" in done.stderr, done
            assert done.returncode in (0, 4), done
            assert pid in done.stdout, done


@pytest.mark.slow
@needs_fuse
@pytest.mark.parametrize("ways", [["master"], ["master", "inside"]])
def test_only_thread_that_reads_is_left_behind_too(attacker: int, ways: list[str]) -> None:
    """It waits for the answer in state S, and of a path its system call has only the address."""

    @in_own_namespace
    def attack() -> None:
        with withholding(attacker, *ways, name="gunicorn") as pid:
            assert f"process {pid} blocks its readers" in (done := semtrace("ps")).stderr, done
            assert done.returncode == 0, done

    attack()


@pytest.mark.slow
@needs_fuse
@in_own_namespace
def test_server_that_withholds_its_memory_stops_no_run(attacker: int) -> None:
    """It has the terminal back, and the server runs on."""
    Path("/dev/shm/point").mkdir()
    ours, theirs = pty.openpty()
    server = [sys.executable, "-S", str(PROGRAMS / "withholding.py"), "/dev/shm/point", str(attacker), "endless"]
    command = [sys.executable, "-m", "semtrace", "run", "--", *server]
    env = {**os.environ, "PYTHONPATH": SOURCE, "TERM": "xterm-256color"}
    with subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True) as popen:
        os.close(theirs)
        Thread(target=_drain, args=(ours,), daemon=True).start()
        assert popen.stderr
        said = popen.stderr.read()
    pid = re.search(r"process (\d+) blocks its readers", said)
    assert pid is not None, said
    assert alive(int(pid[1]))
    assert "the server that it started runs on" in said
    os.kill(int(pid[1]), signal.SIGKILL)


@pytest.mark.slow
@needs_fuse
@in_own_namespace
def test_server_that_withholds_its_memory_ends_its_page(attacker: int) -> None:
    """A page that went on with a second live view would take it for a part of the first."""
    with withholding(attacker) as pid:
        env = {**os.environ, "PYTHONPATH": SOURCE, "TEXTUAL_DRIVER": DRIVER}
        command = session_command(["attach", pid, "--browser=look"])
        done = subprocess.run(command, env=env, stdin=open_pipe(), capture_output=True, timeout=PATIENCE_S)
        assert f"process {pid} blocks its readers".encode() in done.stderr, done
        assert done.stdout.count(b"__GANGLION__") == 1


def open_pipe() -> int:
    """A standard input at which nobody says anything."""
    return os.pipe()[0]


@pytest.mark.slow
@needs_fuse
@in_own_namespace
def test_serve_begins_beside_a_master_that_withholds_its_memory(attacker: int) -> None:
    with withholding(attacker, "master", name="gunicorn") as pid:
        command = [sys.executable, "-m", "semtrace", "serve", "--port", "0", pid]
        env = {**os.environ, "PYTHONPATH": SOURCE}
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as popen:
            assert popen.stdout
            assert popen.stdout.readline().startswith("http://")
            popen.terminate()
        assert alive(int(pid))


def _drain(fd: int) -> None:
    with suppress(OSError):
        while os.read(fd, 65536):
            pass


def test_holder_with_a_read_only_page_is_not_dead() -> None:
    protect = "ctypes.CDLL(None).mprotect(ctypes.c_void_p(lock._semlock.handle & ~4095), 4096, 1)"
    with target() as t:
        t.fork("a", "b")
        t.do("b", "lock.acquire()")
        assert t.do("b", protect) == "0"
        with observing(t.root) as observer:
            for _ in range(20):
                assert only(until(observer, lambda s: s.locks)).state != "orphaned"
                time.sleep(0.05)


# ---- what root runs


def test_run_hides_no_module_of_the_application(tmp_path: Path) -> None:
    (tmp_path / "start.py").write_text("whose = 'the application'")
    env = bootstrap.environment({**os.environ, "PYTHONPATH": str(tmp_path), SHM_VARIABLE: str(tmp_path)})
    done = subprocess.run(
        [sys.executable, "-c", "import start; print(start.whose)"], env=env, capture_output=True, text=True
    )
    assert done.stdout == "the application\n", done


@in_own_namespace
def test_recommended_command_imports_nothing_from_here(attacker: int) -> None:
    os.chdir("/dev/shm")
    Path("psutil.py").write_text("raise SystemExit('run by root')")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    told = "from semtrace.linux import rights; import sys; sys.argv[0] = '/x/__main__.py'; print(rights.own_command())"
    words = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, env=env, cwd="/"
    ).stdout.split()
    done = subprocess.run([*words, "ps"], capture_output=True, text=True, env=env)
    assert "run by root" not in done.stderr + done.stdout
    assert done.returncode == 0, done
