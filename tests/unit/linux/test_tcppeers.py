"""Both ends of a TCP connection over loopback find each other by their inodes."""

from __future__ import annotations

import os
import socket

import pytest

from semtrace.linux.tcppeers import TcpPeers


@pytest.mark.parametrize(
    ("listen", "connect"), [("127.0.0.1", "127.0.0.1"), ("127.8.9.1", "127.8.9.1"), ("::1", "::1"), ("::", "127.0.0.1")]
)
def test_ends_of_a_local_connection_are_paired(listen: str, connect: str) -> None:
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    try:
        server = socket.create_server((listen, 0), family=family, dualstack_ipv6=listen == "::")
    except OSError:
        pytest.skip("no IPv6 here")
    with server, socket.create_connection((connect, server.getsockname()[1])) as client:
        accepted, _ = server.accept()
        with accepted:
            one, other = (os.fstat(each.fileno()).st_ino for each in (client, accepted))
            peers = TcpPeers()
            assert peers.peer(os.getpid(), one) == other
            assert peers.peer(os.getpid(), other) == one
            assert peers.peer(os.getpid(), os.fstat(server.fileno()).st_ino) is None
