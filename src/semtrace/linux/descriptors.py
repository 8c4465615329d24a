"""Read a process's unlinked files of one kind, and the sockets that it listens on, from `/proc/PID`.

psutil leaves unlinked files out, and its net_connections() reads `/proc/net`, the sockets of our own network namespace:
a server in a container would have none. Nor does it distinguish a listening unix socket from a connected one.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterator
from itertools import takewhile

from semtrace.lazydata import dataclass
from semtrace.linux.program import read

# include/net/tcp_states.h
_TCP_LISTEN = b"0A"
# include/uapi/linux/net.h: __SO_ACCEPTCON, the flag of a listening unix socket
_SO_ACCEPTCON = 0x10000


@dataclass(frozen=True)
class OpenFile:
    """An open file, by the link through which it can be looked at. `inode` is (st_dev, st_ino)."""

    link: str
    inode: tuple[int, int]


def descriptors(pid: int) -> Iterator[tuple[str, str]]:
    """The link under `/proc/PID/fd` and what it points to, for each open descriptor; PermissionError if not allowed."""
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except PermissionError:
        raise
    except OSError:
        return
    for name in names:
        link = f"{directory}/{name}"
        try:
            yield link, os.readlink(link)
        except OSError:
            continue


def unlinked_files(pid: int, prefix: str) -> list[OpenFile]:
    """Its open files that are unlinked and whose name began with `prefix`; PermissionError if not allowed."""
    found = []
    for link, target in descriptors(pid):
        if target.endswith(" (deleted)") and os.path.basename(target).startswith(prefix):
            try:
                status = os.stat(link)
            except OSError:
                continue
            found.append(OpenFile(link, (status.st_dev, status.st_ino)))
    return found


def look(file: OpenFile) -> os.stat_result | None:
    """Return its state now, None if the descriptor is closed or another file by now."""
    try:
        status = os.stat(file.link)
    except OSError:
        return None
    return status if (status.st_dev, status.st_ino) == file.inode else None


def share_a_pipe(child: int, parent: int) -> bool | None:
    """Return True if the two have an end each of a pipe; None if that may not be seen. The child's standard streams do
    not count, for any ancestor may have made them.
    """
    try:
        ours, theirs = dict(descriptors(child)), {target for _, target in descriptors(parent)}
    except PermissionError:
        return None
    streams = {ours.get(f"/proc/{child}/fd/{number}") for number in range(3)}
    return any(target.startswith("pipe:") and target in theirs and target not in streams for target in ours.values())


def socket_inodes(pid: int) -> frozenset[bytes]:
    """The inodes of its sockets, none if its descriptors may not be seen."""
    try:
        return frozenset(target[8:-1].encode() for _, target in descriptors(pid) if target.startswith("socket:["))
    except PermissionError:
        return frozenset()


def listening(pid: int, inodes: frozenset[bytes]) -> dict[bytes, str]:
    """The addresses that those of its sockets listen on, in its own network namespace.

    They read `127.0.0.1:8000`, `[::1]:8000`, `unix:/run/x` or, for an abstract name, `unix:@x`.
    """
    if not inodes:
        return {}
    return {
        inode: address
        for raw, parse in (
            (_listening_part(f"/proc/{pid}/net/tcp"), parse_tcp),
            (_listening_part(f"/proc/{pid}/net/tcp6"), parse_tcp),
            (read(f"/proc/{pid}/net/unix", 64 << 20) or b"", parse_unix),
        )
        for inode, address in parse(raw)
        if inode in inodes
    }


def _listening_part(path: str) -> bytes:
    """The head of the table up to the first that has a remote port: what listens comes before what is connected.

    So tcp_get_idx in net/ipv4/tcp_ipv4.c. Thousands of connections would otherwise be read for each server.
    """
    try:
        with open(path, "rb") as f:
            return b"".join([f.readline(), *takewhile(lambda line: b":0000 " in line, f)])
    except OSError:
        return b""


def parse_tcp(raw: bytes) -> Iterator[tuple[bytes, str]]:
    """Inode and address of each listening socket in `/proc/net/tcp` or `tcp6` (networking/proc_net_tcp.rst)."""
    for line in raw.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _TCP_LISTEN:
            try:
                yield fields[9], _address(fields[1].decode())
            except (ValueError, struct.error):
                continue


def _address(field: str) -> str:
    """`0100007F:1F90` is 127.0.0.1:8000: the address is printed as 32-bit words of the machine's byte order."""
    host, _, port = field.partition(":")
    words = struct.unpack(f">{len(host) // 8}I", bytes.fromhex(host))
    packed = struct.pack(f"{'<' if sys.byteorder == 'little' else '>'}{len(words)}I", *words)
    address = ipaddress.ip_address(packed)
    shown = f"[{address}]" if address.version == 6 else str(address)
    return f"{shown}:{int(port, 16)}"


def parse_unix(raw: bytes) -> Iterator[tuple[bytes, str]]:
    """Inode and address of each listening stream socket in `/proc/net/unix` that has a name.

    The fields are Num RefCount Protocol Flags Type St Inode Path (net/unix/af_unix.c, unix_seq_show).
    """
    for line in raw.splitlines()[1:]:
        fields = line.split(maxsplit=7)
        try:
            accepting = int(fields[3], 16) & _SO_ACCEPTCON and int(fields[4], 16) == socket.SOCK_STREAM
        except (ValueError, IndexError):
            continue
        if accepting and len(fields) == 8:
            yield fields[6], f"unix:{os.fsdecode(fields[7])}"
