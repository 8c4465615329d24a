"""Who a lock file of filelock names: in each of its formats, and in none."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from semtrace.linux.process import read_stat
from semtrace.observe.files.softlocks import Owner, parse_claim, parse_owner, soft_holder

HOST = socket.gethostname()
TOKEN = "a" * 32


def boot() -> int:
    return int(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""), 16)


def own_token() -> int:
    stat = read_stat(os.getpid())
    assert stat is not None
    return boot() << 64 | stat.id.start_ticks


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("12\nvm\n", Owner(12, "vm")),
        ("12\nvm\n99\n", Owner(12, "vm", 99)),
        ("filelock/2\npid=12\nhost=vm\nmode=exclusive\nstart=99\n", Owner(12, "vm", 99)),
        ("filelock/2\npid=12\nhost=vm\nmode=lease\ntoken=x\nduration=30.0\n", Owner(12, "vm", removable=False)),
        ("filelock/2\npid=12\nhost=vm\nmode=later\n", Owner(12, "vm", removable=False)),
    ],
)
def test_owner_is_read_in_each_format(text: str, owner: Owner) -> None:
    assert parse_owner(text) == owner


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "12\nvm", "0\nvm\n", "12\n\n", "x\nvm\n", "²\nvm\n", "1\n\x1b[31m\n", "12\nvm\n1\n2\n"),
        "1\nfilelock-strict-v1\0\n0\n",
        "filelock/2\nhost=vm\nmode=exclusive\n",
        "9" * 900 + "\nvm\n",
    ],
)
def test_other_text_names_nobody(text: str) -> None:
    assert parse_owner(text) is None
    assert parse_claim(text) is None


def test_owner_with_the_same_start_holds(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(f"{os.getpid()}\n{HOST}\n{own_token()}\n")
    holder = soft_holder(os.getpid(), str(tmp_path / "lock"))
    assert holder is not None
    assert (holder.process, holder.ended) == (read_stat(os.getpid()).id, False)  # type: ignore[union-attr]


def test_reused_pid_is_no_holder(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(f"{os.getpid()}\n{HOST}\n{own_token() - 1}\n")
    holder = soft_holder(os.getpid(), str(tmp_path / "lock"))
    assert holder is not None
    assert (holder.process, holder.ended) == (None, True)


def test_owner_of_another_boot_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(f"{os.getpid()}\n{HOST}\n{own_token() + (1 << 64)}\n")
    holder = soft_holder(os.getpid(), str(tmp_path / "lock"))
    assert holder is not None
    assert (holder.process, holder.ended, holder.elsewhere) == (None, False, False)


def test_strict_lock_is_held_by_its_claim(tmp_path: Path) -> None:
    """The file itself names no process: its second line is no host, and to remove it would be wrong."""
    claims = tmp_path / "lock.filelock" / "claims"
    claims.mkdir(parents=True)
    (tmp_path / "lock").write_bytes(b"1\nfilelock-strict-v1\0\n0\n")
    assert soft_holder(os.getpid(), str(tmp_path / "lock")) is None
    record = f"filelock-strict-v1\n{TOKEN}\n{{}}\n{HOST.encode().hex()}\n{own_token()}\n"
    (claims / f"intent-v1-{'b' * 32}.claim").write_text(record.format(1))
    (claims / f"held-v1-{TOKEN}.claim").write_text(record.format(os.getpid()))
    holder = soft_holder(os.getpid(), str(tmp_path / "lock"))
    assert holder is not None
    assert holder.process is not None
    assert (holder.process.pid, holder.elsewhere, holder.ended) == (os.getpid(), False, False)


def test_ended_owner_of_a_lease_is_left_to_filelock(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(f"filelock/2\npid={os.getpid()}\nhost={HOST}\nmode=lease\nstart=1\n")
    holder = soft_holder(os.getpid(), str(tmp_path / "lock"))
    assert holder is not None
    assert (holder.process, holder.ended) == (None, False)
