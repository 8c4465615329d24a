"""Ask the kernel which unix socket is connected with which, by NETLINK_SOCK_DIAG (sock_diag(7)).

It answers for our own network namespace, without privilege. A socket of another one is not found, nor is one of another
family.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Collection
from dataclasses import dataclass

# include/uapi/linux/netlink.h, sock_diag.h.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port

# include/uapi/linux/unix_diag.h: unix_diag_req, unix_diag_msg, an attribute's head (struct nlattr).
_REQUEST = struct.Struct("=BBHIIIII")
_MESSAGE = struct.Struct("=BBBxIII")
_ATTRIBUTE = struct.Struct("=HH")
_UDIAG_SHOW_PEER, _UNIX_DIAG_PEER = 4, 2
_ALL_STATES, _NO_COOKIE = 0xFFFFFFFF, 0xFFFFFFFF
_INODES = 1 << 32  # a socket's inode number is 32 bits wide there

# include/net/tcp_states.h
_TCP_LISTEN = 10

_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """`peer` is the inode of the socket at the other end: None if it is not connected, 0 if the other end is
    closed or not accepted yet.

    `stream` is False for datagrams, which others than the peer may send, too.
    """

    inode: int
    stream: bool
    listening: bool
    peer: int | None


def unix_sockets(inodes: Collection[int]) -> dict[int, UnixSocket]:
    """Return those that are unix sockets of our own network namespace, none if the kernel does not know them."""
    try:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    except OSError:
        return {}
    with netlink:
        netlink.settimeout(_PATIENCE_S)
        found = (_ask(netlink, number, inode) for number, inode in enumerate(inodes, 1) if 0 < inode < _INODES)
        return {each.inode: each for each in found if each is not None}


def _ask(netlink: socket.socket, number: int, inode: int) -> UnixSocket | None:
    body = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, inode, _UDIAG_SHOW_PEER, _NO_COOKIE, _NO_COOKIE)
    header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, number, 0)
    try:
        netlink.sendto(header + body, (0, 0))
        answer, sender = netlink.recvfrom(4096)
    except OSError:
        return None
    return parse_answer(answer, number, inode) if sender[0] == 0 else None  # 0: the kernel


def parse_answer(raw: bytes, number: int, inode: int) -> UnixSocket | None:
    """Return None for an error, an answer to another question, and what is cut short."""
    if len(raw) < _HEADER.size + _MESSAGE.size:
        return None
    length, kind, _, sequence, _ = _HEADER.unpack_from(raw)
    _, type_, state, answered, _, _ = _MESSAGE.unpack_from(raw, _HEADER.size)
    if (kind, sequence, answered) != (_SOCK_DIAG_BY_FAMILY, number, inode) or length > len(raw):
        return None
    peer = _peer(raw[_HEADER.size + _MESSAGE.size : length])
    stream = type_ in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
    return UnixSocket(inode, stream, state == _TCP_LISTEN, peer)


def _peer(attributes: bytes) -> int | None:
    """Return the attribute UNIX_DIAG_PEER: net/unix/diag.c sk_diag_dump_peer."""
    while len(attributes) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(attributes)
        if size < _ATTRIBUTE.size:
            return None
        if kind == _UNIX_DIAG_PEER and size == _ATTRIBUTE.size + 4 <= len(attributes):
            return int.from_bytes(attributes[_ATTRIBUTE.size : size], sys.byteorder)
        attributes = attributes[(size + 3) // 4 * 4 :]
    return None
