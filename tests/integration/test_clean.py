"""Leftovers in /dev/shm are removed where nobody uses them, never otherwise; here in a directory next to the others."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import secrets
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest
from support.commands import NOBODY, run, run_as

from semtrace.commands import clean
from semtrace.errors import SemtraceError
from semtrace.linux import lease
from semtrace.linux.sweep import Outside, sweep
from semtrace.model import SemId
from semtrace.repairs import leaks, leftovers
from semtrace.repairs.leftovers import Entry, Surroundings

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")
OLD = Entry("sem.mp-abc", SemId(0, 27, 7), 1000, 32, 3600.0)
ALONE = Surroundings(1000, {}, {}, {}, True)


# -- why one is left alone


def test_old_unmapped_semaphore_of_ours_is_a_leftover() -> None:
    assert leftovers.why_kept(OLD, ALONE) is None
    assert leftovers.why_kept(OLD, replace(ALONE, user=0)) is None


@pytest.mark.parametrize(
    ("entry", "around", "why"),
    [
        (replace(OLD, id=None, size=4096), ALONE, "no semaphore"),
        (replace(OLD, name="sem.PostgreSQL.1"), ALONE, "not a name that Python gives"),
        (replace(OLD, name="sem.mpx"), ALONE, "not a name that Python gives"),
        (replace(OLD, id=None, sort="block"), ALONE, "no SharedMemory block"),
        (replace(OLD, id=None), replace(ALONE, user=1001), "another user's"),
        (OLD, replace(ALONE, mapped_by={SemId(0, 27, 7): [12, 3]}), "in use by PID 3 12"),
        (OLD, replace(ALONE, user=1001), "another user's"),
        (replace(OLD, age_s=59.0), ALONE, "younger than a minute"),
        (replace(OLD, age_s=-5.0), ALONE, "younger than a minute"),
        (OLD, replace(ALONE, in_use={SemId(0, 27, 7): True}), "in use by a process that cannot be seen"),
        (OLD, replace(ALONE, hidden={1000: 77}), "PID 77 of its owner cannot be asked"),
        (OLD, replace(ALONE, sees_all=False), "outside this container"),
    ],
)
def test_any_doubt_keeps_it(entry: Entry, around: Surroundings, why: str) -> None:
    assert why in (leftovers.why_kept(entry, around) or "")


def test_what_the_kernel_counts_settles_what_cannot_be_asked() -> None:
    unused = replace(ALONE, in_use={SemId(0, 27, 7): False}, hidden={1000: 77}, sees_all=False)
    assert leftovers.why_kept(OLD, unused) is None
    assert leftovers.why_kept(OLD, replace(ALONE, hidden={0: 77})) is None, "not its owner's"


# -- real files

# How a process uses a file. Python duplicates the descriptor for each mapping, so libc maps it as C code does.
OPEN = "import ctypes, mmap, os, sys; fd = os.open(sys.argv[1], os.{flag})"
MAP = (
    "libc = ctypes.CDLL(None, use_errno=True); libc.mmap.restype = ctypes.c_void_p\n"
    "at = libc.mmap(None, ctypes.c_size_t(32), mmap.{rights}, mmap.MAP_SHARED, fd, ctypes.c_long(0))\n"
    "assert at not in (None, ctypes.c_void_p(-1).value); os.close(fd)"
)
WRITING = f"{OPEN.format(flag='O_RDWR')}\n{MAP.format(rights='PROT_READ | mmap.PROT_WRITE')}"
READING = f"{OPEN.format(flag='O_RDONLY')}\n{MAP.format(rights='PROT_READ')}"
OPENED = OPEN.format(flag="O_RDONLY")


class Directory:
    """A directory on the tmpfs of /dev/shm, taken for /dev/shm itself, in which everything is old."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.said: list[str] = []

    def make(self, name: str = "", size: int = 32) -> str:
        name = name or f"sem.mp-{secrets.token_hex(4)}"
        Path(self.path, name).write_bytes(bytes(size))
        return name

    def clean(self, yes: bool = True, audit: str | None = None) -> str:
        return "\n".join(clean.clean(yes=yes, audit=audit, say=self.said.append, directory=self.path))

    @property
    def names(self) -> list[str]:
        return sorted(os.listdir(self.path))


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    monkeypatch.setattr(leftovers, "YOUNG_S", -60.0)
    with tempfile.TemporaryDirectory(prefix="semtrace-test-", dir="/dev/shm") as path:
        yield Directory(path)


@contextlib.contextmanager
def _mapped_elsewhere(path: str, how: str = WRITING) -> Iterator[int]:
    argv = [sys.executable, "-c", how + "\nprint(1, flush=True); sys.stdin.read()", path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


def test_leftovers_are_listed_and_with_yes_removed(directory: Directory, tmp_path: Path) -> None:
    made = sorted(directory.make() for _ in range(3))
    text = directory.clean(yes=False)
    assert all(name in text for name in made)
    assert "Nothing was done" in text
    assert directory.names == made
    audit = tmp_path / "audit"
    assert "Removed 3 leftover semaphores" in directory.clean(audit=str(audit))
    assert directory.names == []
    assert len(directory.said) == 3
    intent, *lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert (intent["act"], intent["stage"], intent["names"]) == ("clean", "about to", made)
    assert [line["name"] for line in lines] == made
    assert {line["act"] for line in lines} == {"clean"}
    assert any("nobody has it open" in each for each in lines[0]["evidence"])
    assert "No leftover semaphores" in directory.clean(yes=False)


def test_what_a_process_maps_stays(directory: Directory) -> None:
    used, unused = directory.make(), directory.make()
    with _mapped_elsewhere(f"{directory.path}/{used}") as pid:
        text = directory.clean()
        assert f"in use by PID {pid}: {used}" in text
    assert directory.names == [used]
    assert unused not in text
    directory.clean()
    assert directory.names == []


def test_what_a_process_that_cannot_be_seen_maps_stays(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in another container on the same /dev/shm."""
    used = directory.make()
    monkeypatch.setattr(leftovers, "sweep", lambda ids: dict.fromkeys(ids, Outside()))
    with _mapped_elsewhere(f"{directory.path}/{used}"):
        assert "in use by a process that cannot be seen from here" in directory.clean()
    assert directory.names == [used]


# -- SharedMemory blocks


def test_blocks_are_listed_and_with_yes_removed(directory: Directory, tmp_path: Path) -> None:
    directory.make("psm_small", 10), directory.make("psm_large", 100_000), directory.make("sem.mp-abc")
    text = directory.clean(yes=False)
    assert all(name in text for name in ("psm_small", "psm_large", "sem.mp-abc"))
    assert "1 leftover semaphore and 2 leftover SharedMemory blocks, 108K in all." in text
    assert len(directory.names) == 3
    audit = tmp_path / "audit"
    text = directory.clean(audit=str(audit))
    assert "Removed 1 leftover semaphore and 2 leftover SharedMemory blocks" in text
    assert directory.names == []
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert lines[0]["names"] == ["psm_large", "psm_small", "sem.mp-abc"]
    done = {line["name"]: line for line in lines[1:]}
    assert (done["psm_large"]["before"]["sort"], done["psm_large"]["before"]["room"]) == ("block", 102_400)
    assert "no leftover SharedMemory blocks" in directory.clean(yes=False)


@pytest.mark.parametrize("how", [WRITING, READING, OPENED], ids=["mapped", "mapped for reading", "opened"])
@pytest.mark.parametrize("seen", [True, False])
def test_a_block_in_use_stays(directory: Directory, monkeypatch: pytest.MonkeyPatch, how: str, seen: bool) -> None:
    """A process that maps it for reading only may be in another container."""
    used, unused = directory.make("psm_used", 100_000), directory.make("psm_unused", 100_000)
    if not seen:
        if lease._kernel() < (5, 3):
            pytest.skip("an older kernel does not count readers")
        monkeypatch.setattr(leftovers, "sweep", lambda ids: dict.fromkeys(ids, Outside()))
    with _mapped_elsewhere(f"{directory.path}/{used}", how) as pid:
        text = directory.clean()
    assert (f"in use by PID {pid}: {used}" if seen else "in use by a process that cannot be seen from here") in text
    assert directory.names == [used]
    assert unused not in text


def test_a_block_of_python_stays_while_a_process_has_it(directory: Directory) -> None:
    name = f"psm_semtrace_{secrets.token_hex(4)}"
    block = SharedMemory(name, create=True, size=5000)
    try:
        (found,) = [each for each in leftovers.find() if each.entry.name == name]
        assert found.kept == f"in use by PID {os.getpid()}"
        assert (found.entry.sort, found.entry.size, found.young) == ("block", 5000, False)
    finally:
        block.close()
        block.unlink()


def test_a_young_block_is_shown_only_on_demand(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    used, unused = directory.make("psm_used", 5000), directory.make("psm_unused", 5000)
    monkeypatch.setattr(leftovers, "YOUNG_S", 60.0)
    assert f"younger than a minute, so a process may still open it: {unused}, {used}" in directory.clean()
    with _mapped_elsewhere(f"{directory.path}/{used}"):
        assert leaks.find(directory.path) == leaks.Leaks(())
        (found,) = leaks.find(directory.path, young=True).names or ()
    assert (found.name, found.sort, found.size) == (f"/{unused}", "block", 8192)
    assert found.age_s < 60


def test_what_only_looks_like_a_block_stays(directory: Directory) -> None:
    os.mkdir(f"{directory.path}/psm_directory")
    os.symlink("/etc/passwd", f"{directory.path}/psm_link")
    directory.make("psm_shm.0123-4567")  # of Intel's PSM
    directory.make("other_psm_1")
    before = directory.names
    text = directory.clean()
    assert directory.names == before
    assert "Left alone, no SharedMemory block: psm_directory, psm_link" in text
    assert "psm_shm" not in text


# -- semaphores of musl


def test_a_semaphore_of_musl_is_a_leftover_by_its_words(directory: Directory) -> None:
    for name, mark in (("mp-abcd1234", 0), ("loky-7-abcd1234", 0), ("mp-other123", 128)):
        Path(directory.path, name).write_bytes(struct.pack("<8I", 1, 0, mark, 0, 0, 0, 0, 0))
    text = directory.clean()
    assert "Removed 2 leftover semaphores" in text
    assert "Left alone, no semaphore: mp-other123" in text
    assert directory.names == ["mp-other123"]


def test_semaphore_used_between_search_and_removal_stays(directory: Directory) -> None:
    path = f"{directory.path}/{directory.make()}"
    (found,) = leftovers.find(directory.path)
    assert found.kept is None
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 32):
        assert "in use by" in (leftovers.remove(found, directory.path).kept or "")
    os.rename(path, path + "x")
    directory.make(os.path.basename(path))
    assert "just gone" in (leftovers.remove(found, directory.path).kept or "")
    assert len(directory.names) == 2


def test_without_a_count_from_the_kernel_all_processes_are_searched(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def unknown(name: str, fd: int, **how: bool) -> Iterator[None]:
        yield None

    monkeypatch.setattr(leftovers, "in_use", unknown)
    # Whoever runs this may have a process that root may not ask either.
    monkeypatch.setattr(
        leftovers, "sweep", lambda ids: {each: replace(found, hidden=()) for each, found in sweep(ids).items()}
    )
    used, unused = directory.make(), directory.make()
    with _mapped_elsewhere(f"{directory.path}/{used}"):
        directory.clean()
        assert directory.names == ([used] if leftovers.sees_all_processes() else sorted([used, unused]))


def test_what_is_no_semaphore_or_not_pythons_stays(directory: Directory) -> None:
    os.mkdir(f"{directory.path}/sem.mp-directory")
    os.symlink("/etc/passwd", f"{directory.path}/sem.mp-link")
    directory.make("sem.mp-large", 4096)
    directory.make("sem.other")
    directory.make("mp-other")
    before = directory.names
    text = directory.clean()
    assert directory.names == before
    assert "Left alone, no semaphore: sem.mp-directory, sem.mp-large, sem.mp-link" in text
    assert "not a name that Python gives: sem.other" in text


def test_the_young_stay(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    name = directory.make()
    monkeypatch.setattr(leftovers, "YOUNG_S", 60.0)
    assert f"younger than a minute, so a process may still open it: {name}" in directory.clean()
    assert directory.names == [name]


@as_root
def test_root_removes_what_another_user_left(directory: Directory) -> None:
    os.chown(f"{directory.path}/{directory.make()}", NOBODY, NOBODY)
    directory.clean()
    assert directory.names == []


# -- what the doctor says of them


def test_the_doctor_finds_what_clean_would_remove_and_nothing_else(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where not everybody can be asked, as PID 1 or the world outside a container: the kernel counts."""
    used, unused = directory.make(), directory.make()
    monkeypatch.setattr(leftovers, "sweep", lambda ids: dict.fromkeys(ids, Outside(hidden=(1,))))
    monkeypatch.setattr(leftovers, "user_ids", lambda pid: (os.geteuid(),))
    monkeypatch.setattr(leftovers, "sees_all_processes", lambda: False)
    with _mapped_elsewhere(f"{directory.path}/{used}"):
        found = leaks.find(directory.path)
    assert [each.name for each in found.names or ()] == [f"/{unused.removeprefix('sem.')}"]
    assert found.problems == ()
    assert directory.names == sorted([used, unused])


def test_where_nobody_can_tell_the_doctor_says_so(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def unknown(name: str, fd: int, **how: bool) -> Iterator[None]:
        yield None

    monkeypatch.setattr(leftovers, "in_use", unknown)
    monkeypatch.setattr(leftovers, "sweep", lambda ids: dict.fromkeys(ids, Outside()))
    monkeypatch.setattr(leftovers, "sees_all_processes", lambda: False)
    directory.make()
    found = leaks.find(directory.path)
    assert found.names == ()
    (problem,) = found.problems
    assert problem.what == "tell whether 1 old semaphore in /dev/shm is still used"
    assert "outside this container" in problem.error


def test_semaphore_removed_during_the_check_raises_no_doubt(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def removed(name: str, fd: int, **how: bool) -> Iterator[None]:
        os.unlink(name, dir_fd=fd)
        yield None

    monkeypatch.setattr(leftovers, "in_use", removed)
    monkeypatch.setattr(leftovers, "sweep", lambda ids: dict.fromkeys(ids, Outside()))
    monkeypatch.setattr(leftovers, "sees_all_processes", lambda: False)
    directory.make()
    assert leaks.find(directory.path) == leaks.Leaks(())


def test_unreadable_directory_is_reported_as_not_searched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = leaks.find(str(tmp_path / "file"))
    assert (found.names, found.problems[0].what) == (None, "read its /dev/shm")
    assert leaks.find(str(tmp_path / "none")) == leaks.Leaks(())


# -- the command, which removes nothing here


@contextlib.contextmanager
def _real() -> Iterator[str]:
    # Only the first of many are named, and who knows what else lies there: `!` comes before all that Python gives.
    path = Path(f"/dev/shm/sem.loky-!semtrace-test-{secrets.token_hex(4)}")
    path.write_bytes(bytes(32))
    try:
        yield path.name
    finally:
        path.unlink()


def test_the_command_lists() -> None:
    with _real() as name:
        done = run("clean")
        assert done.returncode == 0, done
        assert done.stderr == ""
        assert name in done.stdout.partition("younger than a minute")[2].partition("Left alone")[0], done


@as_root
def test_another_user_is_told_whose_they_are() -> None:
    with _real():
        done = run_as(NOBODY, "clean")
        assert done.returncode == 0, done
        assert "another user's: only that user or root may remove it" in done.stdout


def test_nothing_is_removed_if_the_audit_file_cannot_be_opened(directory: Directory, tmp_path: Path) -> None:
    name = directory.make()
    with pytest.raises(Exception, match="cannot open the audit file"):
        directory.clean(audit=str(tmp_path))
    assert directory.names == [name]


def test_nothing_is_removed_if_the_audit_file_takes_nothing(directory: Directory) -> None:
    name = directory.make()
    with pytest.raises(SemtraceError, match="the audit file /dev/full"):
        directory.clean(audit="/dev/full")
    assert directory.names == [name]
    assert directory.said == []


def test_who_is_interrupted_leaves_word_of_what_was_not_removed(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = sorted(directory.make() for _ in range(3))
    remove = leftovers.remove

    def interrupted_after_the_first(found: leftovers.Found, path: str) -> leftovers.Found:
        os.kill(os.getpid(), signal.SIGINT)  # which waits until the removal is written down
        return remove(found, path)

    monkeypatch.setattr(leftovers, "remove", interrupted_after_the_first)
    audit = tmp_path / "audit"
    with pytest.raises(KeyboardInterrupt):
        directory.clean(audit=str(audit))
    assert directory.names == others
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [line["stage"] for line in lines] == ["about to", "done", "not done"]
    assert (lines[1]["name"], lines[2]["names"], lines[2]["why"]) == (first, others, "interrupted")
    assert directory.said[-1] == "interrupted when about to remove 2 leftover semaphores: not done"


def test_what_was_kept_after_all_is_written_down(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = directory.make()
    monkeypatch.setattr(leftovers, "remove", lambda found, path: replace(found, kept="it has just gone"))
    audit = tmp_path / "audit"
    directory.clean(audit=str(audit))
    last = json.loads(audit.read_text().splitlines()[-1])
    assert (last["stage"], last["names"], last["why"]) == ("not done", [name], "it has just gone")


def test_where_nothing_is_to_be_removed_nothing_is_intended(directory: Directory, tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    directory.clean(audit=str(audit))
    assert audit.read_text() == ""
