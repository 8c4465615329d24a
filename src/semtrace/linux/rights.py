"""Explain why the kernel refuses to show a process, and the remedy: the sentence under every "not permitted"."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from semtrace.linux import withheld
from semtrace.model import Problem, ProcessId

_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
CAP_SYS_PTRACE = 19

_arguments: tuple[str, ...] | None = None


def refused(process: ProcessId, what: str, error: OSError) -> Problem:
    return Problem(what=what, error=error.strerror or str(error), remedy=remedy(process.pid), process=process)


def started_with(arguments: Sequence[str]) -> None:
    """Remember the arguments of this semtrace: a remedy repeats exactly these with more rights."""
    global _arguments
    _arguments = tuple(arguments)


def remedy(pid: int) -> str:
    """Return the remedy for reading `pid`: the same command with more rights, or the live view without a command."""
    if pid in withheld.PIDS:
        return "it uses a file whose file system does not answer: end the process that serves that file"
    again = _again(pid)
    if os.geteuid() == 0:
        if has_capability(CAP_SYS_PTRACE):
            return f"even root may not read process {pid}: SELinux, AppArmor or a user namespace forbids it"
        return "root without SYS_PTRACE, as in a container: start it with --cap-add SYS_PTRACE, or run this on the host"
    owner = owner_of(pid)
    if owner is not None and owner != os.geteuid():
        return f"it belongs to another user or protects itself: {again}"
    scope = yama_scope()
    if scope >= 3:
        return "kernel.yama.ptrace_scope is 3: nobody can read another process until the machine is booted without it"
    if scope > 0:
        return f"kernel.yama.ptrace_scope is {scope}: {again}   (or: sudo sysctl kernel.yama.ptrace_scope=0)"
    return f"it is not dumpable, as after a change of user: {again}"


def map_files_remedy(pid: int) -> str:
    """Return the remedy for reading `/proc/PID/map_files` (fs/proc/base.c proc_map_files_get_link)."""
    if os.geteuid() != 0:
        return f"its file has no name any more, so only root can open it: {_again(pid)}"
    return (
        "root without CHECKPOINT_RESTORE, as in a container: start it with --cap-add CHECKPOINT_RESTORE (before Linux "
        "5.9: SYS_ADMIN), or release it from the host"
    )


def _again(pid: int) -> str:
    return f"sudo {own_command()} {pid if _arguments is None else shlex.join(_arguments)}".rstrip()


def own_command() -> str:
    """Return the command of this semtrace with its path, for sudo does not search a virtual environment."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py" or not program.exists():
        # Without -P, or -I before 3.11, root would import what lies in the directory in which it stands.
        return f"{sys.executable} {'-P' if sys.version_info >= (3, 11) else '-I'} -m semtrace"
    return str(program.resolve())


def owner_of(pid: int) -> int | None:
    """Return the owner of `/proc/PID`: root for a process that is not dumpable (proc(5))."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


def yama_scope() -> int:
    """0 where Yama is absent or off (Documentation/admin-guide/LSM/Yama.rst)."""
    try:
        return int(_YAMA.read_text())
    except (OSError, ValueError):
        return 0


def has_capability(number: int) -> bool:
    try:
        text = Path("/proc/self/status").read_text()
        effective = next(line for line in text.splitlines() if line.startswith("CapEff:"))
        return bool(int(effective.split()[1], 16) >> number & 1)
    except (OSError, ValueError, IndexError, StopIteration):
        return False
