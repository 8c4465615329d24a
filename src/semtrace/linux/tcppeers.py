"""Find the other end of a TCP connection within this machine, by the inodes of both sockets.

`/proc/PID/net/tcp` lists all connections of a network namespace by their addresses: of one over loopback both ends are
in the list. Reading it takes some milliseconds, so a list is read once for each namespace.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from semtrace.linux.program import read

# A machine with more connections than fit here is not read: some 27,000.
_MOST_BYTES = 4 << 20
# net/ipv4/tcp_ipv4.c get_tcp4_sock: local and remote address, state, …, inode. include/net/tcp_states.h TCP_ESTABLISHED
_LOCAL, _REMOTE, _STATE, _INODE, _FIELDS = 1, 2, 3, 9, 10
_ESTABLISHED = b"01"
# 127.0.0.0/8 and ::1 as words in the byte order of x86-64 and ARM; an IPv4 address in an IPv6 socket.
_LOOPBACK_4, _LOOPBACK_6, _MAPPED = b"7F", b"00000000000000000000000001000000", b"0000000000000000FFFF0000"

_Ends = tuple[bytes, bytes]


class TcpPeers:
    """Keep the connections of each network namespace as they were when first asked for."""

    def __init__(self) -> None:
        self._peers: dict[str, dict[int, int]] = {}

    def peer(self, pid: int, inode: int) -> int | None:
        """Return the inode of the socket that this one of a process is connected with; None if it is elsewhere."""
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/net")
        except OSError:
            return None
        if namespace not in self._peers:
            self._peers[namespace] = _paired(pid)
        return self._peers[namespace].get(inode)


def _paired(pid: int) -> dict[int, int]:
    ends = {each: inode for name in ("tcp", "tcp6") for each, inode in _connections(pid, name)}
    pairs = ((inode, ends.get((remote, local))) for (local, remote), inode in ends.items())
    return {inode: other for inode, other in pairs if other is not None}


def _connections(pid: int, name: str) -> Iterator[tuple[_Ends, int]]:
    """Yield both addresses and the inode of each connection over loopback."""
    raw = read(f"/proc/{pid}/net/{name}", _MOST_BYTES) or b""
    for line in raw.split(b"\n")[1:] if len(raw) < _MOST_BYTES else ():
        fields = line.split(maxsplit=_FIELDS)
        if len(fields) < _FIELDS or fields[_STATE] != _ESTABLISHED or not fields[_INODE].isdigit():
            continue
        ends = _plain(fields[_LOCAL]), _plain(fields[_REMOTE])
        if all(map(_is_loopback, ends)) and fields[_INODE] != b"0":
            yield ends, int(fields[_INODE])


def _plain(address: bytes) -> bytes:
    return address.removeprefix(_MAPPED)


def _is_loopback(address: bytes) -> bool:
    host = address.partition(b":")[0]
    return host == _LOOPBACK_6 or (len(host) == 8 and host.endswith(_LOOPBACK_4))
