"""Files whose paths others can influence are opened in one place, which follows, waits for and runs nothing."""

from __future__ import annotations

import ast
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from semtrace.linux import safefile
from semtrace.linux.safefile import Unsafe

SOURCE = Path(__file__).parents[3] / "src" / "semtrace"
OTHER = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")

# Modules that open something else than a constant path or one below /proc/PID, and why they may.
ALLOWED = {
    "linux/safefile.py": "is the one place",
    "linux/lease.py": "only through safefile",
    "linux/pagecount.py": "/proc/kpage* and /proc/PID/pagemap, from its own callers",
    "linux/commonpages.py": "/proc/PID/pagemap, and one constant file",
    "linux/files.py": "read_whole() of files in /proc, whose callers are looked at, too",
    "linux/program.py": "read() of files in /proc, from its own callers",
    "linux/descriptors.py": "tables in /proc/PID/net, from its own callers",
    "linux/pidfd.py": "files of /proc/PID, and of a cgroup below /sys/fs/cgroup",
    "linux/surroundings.py": "files of /proc/PID",
    "linux/memory.py": "/proc/PID/mem",
    "linux/lineage.py": "/proc/PID/mem",
    "linux/maps.py": "/proc/PID/maps",
    "linux/pages.py": "/proc/PID/pagemap",
    "web/server.py": "files of installed packages",
    "repairs/leftovers.py": "the directory /dev/shm, and of it nothing that is waited for",
    "commands/export.py": "a descriptor of safefile's",
    "export/page.py": "a file of this package",
    "metrics/listener.py": "descriptors that its parent has made",
    "metrics/textfile.py": "a descriptor of safefile's",
    "record/codec.py": "no file: methods that read from a cursor",
    "record/groups.py": "no file: methods that read from a cursor",
    "record/head.py": "two constant files of /proc",
    "tui/terminal/saving.py": "a descriptor of safefile's, which ends",
    "tracing/reader.py": "makes a FIFO by a descriptor of a directory that was checked",
}
OPENERS = {
    "open",
    "read_whole",
    "fdopen",
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "mkfifo",
    "mkstemp",
    "mkdtemp",
}
OPENS = re.compile(rf"\b({'|'.join(sorted(OPENERS))})\(")
CONSTANT = re.compile(r"(Path\()?f?[\"'](/proc/|/dev/)|os\.devnull|_YAMA$")


def opens() -> Iterator[tuple[str, str]]:
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith("instrument/"):  # runs in the server, as the server's own user
            continue
        text = path.read_text()
        if not OPENS.search(text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                called = node.func
                word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                if word in OPENERS and not _is_ours(called):
                    of = node.args[0] if node.args else called.value if isinstance(called, ast.Attribute) else called
                    yield name, ast.get_source_segment(text, of) or ""


def _is_ours(called: ast.expr) -> bool:
    """A method of that name of an object of ours, such as a filter box."""
    owner = called.value if isinstance(called, ast.Attribute) else None
    return isinstance(owner, ast.Attribute) and owner.attr in ("filter_box",)


def test_nothing_else_opens_what_others_can_influence() -> None:
    others = {(name, what) for name, what in opens() if name not in ALLOWED and not CONSTANT.match(what)}
    assert others == set()


def test_file_is_appended_to_and_private_to_its_user(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    for line in (b"one\n", b"two\n"):
        fd = safefile.append(path)
        os.write(fd, line)
        os.close(fd)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one\ntwo\n", 0o600)


def test_a_line_that_was_cut_short_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    path.write_bytes(b"whole\npart")
    os.close(safefile.append(path))
    assert path.read_bytes() == b"whole\n"
    path.write_bytes(b"part")
    os.close(safefile.append(path))
    assert path.read_bytes() == b""


def test_own_link_is_followed_except_as_the_last_component(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    safefile.replace(tmp_path / "link" / "file", b"data")
    assert (tmp_path / "real" / "file").read_bytes() == b"data"
    (tmp_path / "end").symlink_to("real/file")
    with pytest.raises(OSError):  # noqa: PT011  any
        safefile.append(tmp_path / "end")
    safefile.replace(tmp_path / "end", b"new")
    assert not (tmp_path / "end").is_symlink()
    assert (tmp_path / "real" / "file").read_bytes() == b"data"
    assert sorted(os.listdir(tmp_path / "real")) == ["file"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        safefile.replace(tmp_path / "a" / "file", b"")


@as_root
@pytest.mark.parametrize("mode", [0o755, 0o777, 0o775])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    os.chown(folder, OTHER if mode == 0o755 else 0, OTHER)
    with pytest.raises(Unsafe):
        safefile.append(folder / "audit")
    with pytest.raises(Unsafe):
        safefile.replace(folder / "sub" / "view", b"")
    assert os.listdir(folder) == []
    folder.chmod(0o1777)
    if mode != 0o755:
        os.close(safefile.append(folder / "audit"))


@as_root
def test_new_files_in_foreign_directories_never_go_through_links(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "away").symlink_to("/")
    os.chown(theirs, OTHER, -1)
    with safefile.directory(theirs, private=False) as fd:
        os.close(safefile.create("mine", fd))
        with pytest.raises(FileExistsError):
            safefile.create("mine", fd)
        with pytest.raises(FileExistsError):
            safefile.create("away", fd)
    with pytest.raises(Unsafe), safefile.directory(theirs / "away", private=False):
        pass


@as_root
def test_another_users_settings_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"secret")
    assert safefile.read(path, 3) == b"sec"
    os.chown(path, OTHER, -1)
    with pytest.raises(Unsafe):
        safefile.read(path, 100)


def test_nothing_that_is_no_file_is_opened_or_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    began = time.monotonic()
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError):  # noqa: PT011  any
            safefile.read(path, 10)
        with pytest.raises(OSError):  # noqa: PT011  any
            safefile.append(path)
    assert time.monotonic() - began < 5
