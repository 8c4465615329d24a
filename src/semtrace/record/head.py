"""The first chunk of a recording: which machine and server it is of, what wrote it, and its types. Pure but for the
questions about the machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any

from semtrace import __version__
from semtrace.errors import SemtraceError
from semtrace.lazydata import dataclass
from semtrace.model import Snapshot
from semtrace.record.chunks import Chunk, ChunkKind, Compression, deflated, plain
from semtrace.record.numbers import Damaged
from semtrace.record.schema import Reader, Schema, SchemaMismatch

FORMAT = 1
_LONGEST = 1 << 20
_LONGEST_WORD = 4096


class NotARecording(SemtraceError):
    """The file is not a recording, or not one that this version can read."""


@dataclass(frozen=True)
class Head:
    """The header of a recording. `interval_s` is the time between two snapshots, `ignore` are names of locks that each
    worker may have for itself. `machine` and `limits` are words about the machine and the resource limits of the
    server's first process.
    """

    began_ns: int
    began_at: float
    interval_s: float
    version: str
    ignore: tuple[str, ...] = ()
    machine: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)


@cache
def schema() -> Schema:
    """Return the types of this version. Costs 20 ms."""
    return Schema(Snapshot)


def new_head(interval_s: float, ignore: tuple[str, ...], pid: int) -> Head:
    return Head(time.monotonic_ns(), time.time(), interval_s, __version__, ignore, about_machine(), _limits_of(pid))


def encode_head(head: Head, types: Schema) -> Chunk:
    table = {
        "format": FORMAT,
        "semtrace": head.version,
        "began_at": head.began_at,
        "interval_s": head.interval_s,
        "ignore": list(head.ignore),
        "machine": dict(head.machine),
        "limits": dict(head.limits),
        "root": types.root,
        "types": types.description,
    }
    return Chunk(
        ChunkKind.HEAD, Compression.DEFLATE, head.began_ns, head.began_ns, deflated(json.dumps(table).encode())
    )


def decode_head(chunk: Chunk | None, types: Schema) -> tuple[Head, Reader]:
    """Return the head, and what reads the file's snapshots. Raises NotARecording."""
    if chunk is None or chunk.kind != ChunkKind.HEAD:
        raise NotARecording("it is not a recording of semtrace", "record one with: semtrace record PID -o FILE")
    try:
        table = json.loads(plain(chunk, _LONGEST))
    except (ValueError, RecursionError) as error:
        raise NotARecording("the head of the recording is damaged", "copy the file again") from error
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise NotARecording(_other_version(table, "it has another format"), "open it with that version")
    try:
        reader = types.reader(table.get("types"))
        return _head(table, chunk), reader
    except SchemaMismatch as error:
        raise NotARecording(_other_version(table, str(error)), "open it with that version") from error
    except Damaged as error:
        raise NotARecording("the head of the recording is damaged", "copy the file again") from error


def _head(table: Mapping[str, Any], chunk: Chunk) -> Head:
    ignore = table.get("ignore")
    return Head(
        began_ns=chunk.first_ns,
        began_at=_number(table.get("began_at"), 2e11),
        interval_s=_number(table.get("interval_s"), 1e6),
        version=_word(table.get("semtrace")),
        ignore=tuple(map(_word, ignore)) if isinstance(ignore, list) else (),
        machine=_words(table.get("machine")),
        limits=_words(table.get("limits")),
    )


def _number(table: object, most: float) -> float:
    if isinstance(table, (int, float)) and 0 <= table <= most:
        return float(table)
    raise Damaged("a number of the head is not one of the format")


def _words(table: object) -> dict[str, str]:
    return {_word(key): _word(value) for key, value in table.items()} if isinstance(table, dict) else {}


def _word(table: object) -> str:
    return table[:_LONGEST_WORD] if isinstance(table, str) else ""


def _other_version(table: object, why: str) -> str:
    version = _word(table.get("semtrace")) if isinstance(table, dict) else ""
    return f"the recording was written by semtrace {version or 'of an unknown version'}: {why}"


def about_machine() -> dict[str, str]:
    """Return what a reader elsewhere wants to know about this machine."""
    system = os.uname()
    found = {"host": system.nodename, "kernel": system.release, "architecture": system.machine}
    found |= {"processors": str(os.cpu_count() or ""), "clock_ticks": str(os.sysconf("SC_CLK_TCK"))}
    for name, path in (("boot_id", "/proc/sys/kernel/random/boot_id"), ("memory", "/proc/meminfo")):
        try:
            text = Path(path).read_text(errors="replace")
        except OSError:
            continue
        found[name] = text.partition("\n")[0].removeprefix("MemTotal:").strip()
    return found


def _limits_of(pid: int) -> dict[str, str]:
    """Return the soft resource limits of a process, as the kernel shows them (fs/proc/base.c proc_pid_limits)."""
    try:
        lines = Path(f"/proc/{pid}/limits").read_text(errors="replace").splitlines()[1:]
    except OSError:
        return {}
    return {line[:26].strip(): line[26:47].strip() for line in lines if line[:26].strip()}
