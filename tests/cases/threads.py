"""Show where each thread of some processes sleeps: system call, what it is about, and its innermost frames.

For people who look at a case. The frames come from py-spy, which stops nobody here, so they may be torn.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

_NAMES = {
    "0": "read",
    "1": "write",
    "7": "poll",
    "23": "select",
    "34": "pause",
    "61": "wait4",
    "72": "fcntl",
    "73": "flock",
    "202": "futex",
    "230": "clock_nanosleep",
    "232": "epoll_wait",
    "247": "waitid",
    "270": "pselect6",
    "271": "ppoll",
    "281": "epoll_pwait",
    "288": "accept4",
}  # x86-64
_DESCRIPTOR = {"read", "write", "flock", "fcntl", "accept4", "epoll_wait"}
_FUTEX = {0: "WAIT", 128: "WAIT", 9: "WAIT_BITSET", 393: "WAIT_BITSET"}  # by the operation without FUTEX_CLOCK_REALTIME


def threads(pid: int) -> list[str]:
    """Return a line for each thread of a process, and lines for its innermost frames."""
    frames = _frames(pid)
    lines = [f"PID {pid} {_read(pid, 'comm')} state {_state(pid)} parent {_parent(pid)}"]
    for tid in map(int, os.listdir(f"/proc/{pid}/task")):
        lines.append(f"  {tid} {_sleep(pid, tid)}  wchan {_read(pid, f'task/{tid}/wchan')}")
        lines += [f"      {frame}" for frame in frames.get(tid, ())]
    return lines


def _sleep(pid: int, tid: int) -> str:
    words = _read(pid, f"task/{tid}/syscall").split()
    if not words or not words[0].isdigit():
        return " ".join(words)
    name = _NAMES.get(words[0], words[0])
    args = [int(word, 16) for word in words[1:7]]
    if name == "futex":
        operation = args[1] & ~0x100
        timed = "" if args[3] == 0 else " timed"
        return f"futex {_FUTEX.get(operation, operation)} at {args[0]:#x} in {_mapping(pid, args[0])}{timed}"
    if name in _DESCRIPTOR:
        return f"{name} fd {args[0]} -> {_link(pid, args[0])}"
    if name in ("wait4", "waitid"):
        return f"{name} {[_signed(arg) for arg in args[:4]]}"
    return f"{name} {[hex(arg) for arg in args[:5]]}"


def _signed(value: int) -> int:
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def _mapping(pid: int, address: int) -> str:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            low, _, high = line.split()[0].partition("-")
            if int(low, 16) <= address < int(high, 16):
                words = line.split(None, 5)
                return f"{words[1]} {words[5] if len(words) > 5 else 'anonymous'}"
    return "?"


def _link(pid: int, fd: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError as error:
        return str(error)


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text().strip()
    except OSError as error:
        return f"({error.strerror})"


def _state(pid: int) -> str:
    stat = _read(pid, "stat")
    return stat.rpartition(")")[2].split()[0] if ")" in stat else "?"


def _parent(pid: int) -> str:
    stat = _read(pid, "stat")
    return stat.rpartition(")")[2].split()[1] if ")" in stat else "?"


def _frames(pid: int, most: int = 7) -> dict[int, list[str]]:
    tool = shutil.which("py-spy") or str(Path(sys.executable).parent / "py-spy")
    done = subprocess.run([tool, "dump", "--nonblocking", "--json", "--pid", str(pid)], capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return {pid: [done.stderr.strip()[-100:]]}
    return {
        thread.get("os_thread_id") or pid: [
            f"{frame['name']} {frame['short_filename']}:{frame['line']}" for frame in thread["frames"][:most]
        ]
        for thread in found
    }
