"""Servers as containers and upgrades leave them: namespaces, an overlay root, files that were replaced, no symbols."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import pythons
from support.targets import Target, observing, only, state, target, until

from semtrace.linux.maps import read_mappings
from semtrace.model import Lock, Snapshot
from semtrace.observe.observer import Observer

# A root of its own as container engines make it, with its own /proc and /dev/shm.
ROOT = """
set -e
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
%s
mount --rbind /dev /mnt/root/dev
mount -t tmpfs none /mnt/root/dev/shm
mount --rbind /tmp /mnt/root/tmp
mount -t proc proc /mnt/root/proc
exec chroot /mnt/root "$@"
"""
# In a user namespace of its own the kernel makes no overlay of a tree with other mounts in it.
OVERLAY = "mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root"
BIND = "mount --rbind / /mnt/root"
KINDS = {
    "pid and mount": ("unshare", "-m", "-p", "--fork", "sh", "-c", ROOT % OVERLAY, "-"),
    "user, pid and mount": (
        "unshare",
        "-U",
        "-r",
        "-m",
        "-p",
        "--fork",
        "sh",
        "-c",
        ROOT % BIND,
        "-",
    ),
}


def _possible(kind: str) -> bool:
    try:
        return subprocess.run([*KINDS[kind], "true"], capture_output=True).returncode == 0
    except OSError:
        return False


POSSIBLE = [kind for kind in KINDS if _possible(kind)]
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change a process's memory")
containers = pytest.mark.parametrize("kind", POSSIBLE or [pytest.param("", marks=pytest.mark.skip("no unshare here"))])


@containers
@pytest.mark.parametrize("version", ["3.11", "3.14"])
def test_server_in_a_container_is_judged_from_the_host(kind: str, version: str) -> None:
    with target(pythons.need(version), wrapper=KINDS[kind]) as t:
        a, b = t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.block("b", "lock")
        with observing(t.root) as observer:
            lock = named(observer, "contended")
            assert lock.name == "__main__.lock"
            assert [(holder.pid, holder.tid) for holder in lock.holders] == [(a, t.tids["a"])]
            assert [waiter.pid for waiter in lock.waiters or ()] == [b]
            t.kill("a")
            state(observer, "orphaned")


@containers
def test_server_in_a_container_is_seen_from_inside(kind: str) -> None:
    with target(sys.executable, wrapper=KINDS[kind]) as t:
        t.fork("a")
        t.do("a", "lock.acquire()")
        inside = "import os; from semtrace.cli import main; main(['dump', os.environ['INNER']])"
        enter = ["nsenter", "-t", str(t.root), "-m", "-p", "-r", "-w", *(["-U"] if "user" in kind else [])]
        environment = {**os.environ, "INNER": _inner(t.root)}
        done = subprocess.run([*enter, sys.executable, "-c", inside], env=environment, capture_output=True, text=True)
        assert "held" in done.stdout, done.stdout + done.stderr
        assert "__main__.lock" in done.stdout


def named(observer: Observer, wanted: str) -> Lock:
    """The only lock of the server, once it is seen in that state and has its name."""
    return only(until(observer, lambda s: bool(s.locks) and only(s).state == wanted and bool(only(s).name)))


def _inner(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]


class Copied:
    """An interpreter that was copied elsewhere, as conda, uv and Nix have theirs; `image` is the file with CPython."""

    def __init__(self, version: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
        python = Path(pythons.need(version)).resolve()
        library = next(iter(python.parents[1].glob("lib/libpython3.*.so.1.0")), None)
        self.python = folder / f"nix/store/0123abcd-python3-{version}/bin/python{version}"
        self.python.parent.mkdir(parents=True)
        shutil.copy(python, self.python)
        self.image = self.python
        if library is not None:
            self.image = self.python.parents[1] / "lib" / library.name
            self.image.parent.mkdir()
            shutil.copy(library, self.image)
            patch.setenv("LD_LIBRARY_PATH", str(self.image.parent))
        patch.setenv("PYTHONHOME", str(python.parents[1]))


def hide_symbol(pid: int) -> None:
    """Give `_PyRuntime` another name in a running process, so that nothing finds it as an exported symbol."""
    hidden = 0
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for mapping in read_mappings(pid) or []:
            name = mapping.path.rpartition("/")[2]
            if not mapping.inode or not name.startswith(("python", "libpython")):
                continue
            memory.seek(mapping.start)
            at = memory.read(mapping.end - mapping.start).find(b"\0_PyRuntime\0")
            if at >= 0:
                memory.seek(mapping.start + at)
                memory.write(b"\0_PyRuntimX\0")
                hidden += 1
    assert hidden


def held_by_name(t: Target) -> Snapshot:
    t.fork("a")
    t.do("a", "lock.acquire()")
    with observing(t.root) as observer:
        lock = named(observer, "held")
        assert (lock.name, [holder.tid for holder in lock.holders]) == ("__main__.lock", [t.tids["a"]])
        return observer.snapshot()


def delete(image: Path) -> None:
    image.unlink()


def upgrade(image: Path) -> None:
    """As package managers do: another file under the same name."""
    image.unlink()
    shutil.copy("/bin/sh", image)


@pytest.mark.parametrize("change", [delete, upgrade])
@pytest.mark.parametrize("version", ["3.8", "3.13", "3.14"])
def test_interpreter_that_was_replaced_on_disk_is_read_from_memory(
    version: str, change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Copied(version, tmp_path, monkeypatch)
    with target(str(copied.python)) as t:
        change(copied.image)
        held_by_name(t)


@root
@pytest.mark.parametrize("version", ["3.13", "3.14", "3.15"])
def test_interpreter_without_symbols_is_found_by_its_cookie(version: str) -> None:
    with target(pythons.need(version)) as t:
        hide_symbol(t.root)
        assert not held_by_name(t).problems


@root
def test_older_interpreter_without_symbols_is_said_to_be_unread() -> None:
    """It has no cookie. Who holds a lock is read all the same."""
    with target(pythons.need("3.12")) as t:
        hide_symbol(t.root)
        t.fork("a")
        t.do("a", "lock.acquire()")
        with observing(t.root) as observer:
            lock = state(observer, "held")
            assert [holder.pid for holder in lock.holders] == [t.pids["a"]]
            until(observer, lambda snapshot: snapshot.unread("private-locks"))
