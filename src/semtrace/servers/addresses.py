"""Addresses that a server listens on, found from the sockets of its processes."""

from __future__ import annotations

from semtrace.linux.descriptors import listening, socket_inodes
from semtrace.linux.process import Stat, children

_MOST_CHILDREN = 8


def addresses(root: Stat, but: str = "\0") -> tuple[str, ...]:
    """Return the addresses that the root shares with its workers, without those that end with `but`.

    A socket that only the root has is its control socket, or one of a hook. With --reuse-port each worker has its own
    socket; then these are the addresses that all workers have in common.
    """
    own = socket_inodes(root.id.pid)
    listens = listening(root.id.pid, own)
    # Not psutil's children(): that reads every process of the machine, 7 ms of 300, for each server.
    pids = children(root)[:_MOST_CHILDREN]
    workers = [socket_inodes(pid) for pid in pids]
    shared = own.intersection(frozenset().union(*workers))
    found = {
        address
        for inode, address in listens.items()
        if (inode in shared or not any(workers)) and not address.endswith(but)
    }
    if not found:
        theirs = [set(listening(pid, inodes).values()) for pid, inodes in zip(pids, workers, strict=True) if inodes]
        found = set.intersection(*theirs) if theirs else set()
    return tuple(sorted(found))
