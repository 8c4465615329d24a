"""Helpers of the tests that attack: a user who is made for them, a mount namespace of their own, and forged files."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pwd
import secrets
import shutil
import struct
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from semtrace.model import ProcessId, SemId
from semtrace.wire.offsets import (
    NAME_BYTES,
    STATE_SIZE,
    Header,
    LockWord,
    encode_header,
    encode_name,
    identity_word,
    lock_at,
)
from semtrace.wire.place import CONTROL, encode_control, server_directory, state_name
from semtrace.wire.words import Flag, Kind

F = TypeVar("F", bound=Callable[..., None])

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("useradd") is None, reason="root makes a user and attacks as that one"
)


@contextlib.contextmanager
def new_user() -> Iterator[int]:
    """A user without a home, removed in the end, also while a process of that user is still there."""
    name = f"semtrace-{secrets.token_hex(4)}"
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/false", name], check=True, capture_output=True)
    try:
        yield pwd.getpwnam(name).pw_uid
    finally:
        subprocess.run(["userdel", "--force", name], check=False, capture_output=True)


def in_own_namespace(test: F) -> F:
    """Runs the test in a child with a mount namespace of its own, in it an empty /dev/shm and an empty /run."""

    @functools.wraps(test)
    def run(*arguments: object, **named: object) -> None:
        result, told = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(result)
            os.write(told, _outcome(test, arguments, named).encode())
            os._exit(0)
        os.close(told)
        with open(result, encoding="utf-8") as said:
            outcome = said.read()
        os.waitpid(pid, 0)
        assert outcome == "well", outcome

    return run  # type: ignore[return-value]


def _outcome(test: Callable[..., None], arguments: tuple[object, ...], named: dict[str, object]) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
            return f"no mount namespace: {os.strerror(ctypes.get_errno())}"
        for place, options in ((b"/dev/shm", b"mode=1777"), (b"/run", b"mode=755")):
            if libc.mount(b"tmpfs", place, b"tmpfs", 0, options):
                return f"no tmpfs: {os.strerror(ctypes.get_errno())}"
        test(*arguments, **named)
    except BaseException:  # noqa: BLE001  the parent says it
        return traceback.format_exc()
    return "well"


class Forger:
    """A directory of a user's that looks like a traced server's; `file` forges the state file of any process."""

    def __init__(self, user: int, root: ProcessId) -> None:
        self.user = user
        self.path = Path(server_directory(user, root))
        for path in (self.path.parent, self.path):
            path.mkdir(0o700, exist_ok=True)
            os.chown(path, user, -1)
        self._put(CONTROL, encode_control(os.stat("/proc/self/ns/pid").st_ino))

    def file(self, process: ProcessId, locks: dict[SemId, str], **words: int) -> None:
        """One that says that the process knows these locks by these names; `words` are of each lock."""
        data = bytearray(STATE_SIZE)
        header = encode_header(process, 1, words.pop("file_since", 1))
        header[Header.SITES] = 0
        struct.pack_into(f"<{len(header)}Q", data, 0, *header)
        for slot, (lock, name) in enumerate(locks.items()):
            at = lock_at(slot)
            identity = identity_word(lock, Kind.LOCK, Flag.NONE, slot)
            for word, value in {"INODE": lock.inode, "IDENTITY": identity, **words}.items():
                struct.pack_into("<Q", data, (at + LockWord[word]) * 8, value)
            start = (at + LockWord.NAME) * 8
            data[start : start + NAME_BYTES] = encode_name(name)
        self._put(state_name(process), bytes(data))

    def sparse(self, process: ProcessId) -> None:
        path = self.path / state_name(process)
        with path.open("wb") as file:
            file.truncate(STATE_SIZE)
        os.chown(path, self.user, -1)

    def _put(self, name: str, data: bytes) -> None:
        (self.path / name).write_bytes(data)
        os.chown(self.path / name, self.user, -1)
