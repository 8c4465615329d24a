"""Waits for the locks of a Manager: from a client's connection to the thread that serves it, and the lock it sleeps in.

That thread waits in the client's place, so what could wake it wakes the client. An RLock knows the thread that took it,
and so the client that this thread serves. The holder of any other lock is not known: each client, and each process that
could become one, may release it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from semtrace.cpython.managers import ProxyCall, Service
from semtrace.cpython.privatewait import WaitKind as Private
from semtrace.lazydata import dataclass, replace
from semtrace.linux.blocked import Call
from semtrace.linux.channels import Channel, ChannelId, ChannelKind, channel
from semtrace.linux.process import thread_age_s, thread_ids
from semtrace.linux.tcppeers import TcpPeers
from semtrace.model import Doubt, ProcessId, Target, ThreadId, Wait, WaitKind, Wakers
from semtrace.observe.blocked.asleep import Sleeper
from semtrace.observe.blocked.waitfor import About, Reason, made

# Methods of a Lock, RLock, Semaphore, Condition, Event and Barrier, and of a Queue, that wait for other clients.
_ACQUIRE, _WAIT = "acquire", "wait"
_GET, _OF_QUEUES = "get", ("get", "put", "join")
# Lib/multiprocessing/managers.py SyncManager.register, 3.8 to 3.15: the classes whose `wait` is for other clients.
_WAITED_FOR = ("Event", "Condition", "Barrier")

_LOCKS = (Private.LOCK, Private.RLOCK, Private.CONDITION)
_MOST_CLIENTS = 256
_QUEUE = "queue.Queue"
_AGE_TICK_S = 0.1  # the kernel counts a thread's age in ticks of 10 ms
_RECEIVES = (Call.READ, Call.RECEIVE)


@dataclass(frozen=True)
class _Line:
    """A connection at the manager's end: the thread that serves it, and the sockets of both ends."""

    sleeper: Sleeper
    service: Service
    own: ChannelId | None
    client: ChannelId | None

    @property
    def manager(self) -> ProcessId:
        return self.sleeper.thread.process


@dataclass(frozen=True)
class _Client:
    """A thread that waits for the answer of a manager, and the connection at the manager's end where that is known."""

    sleeper: Sleeper
    call: ProxyCall
    line: _Line | None

    @property
    def served(self) -> _Line | None:
        """Return the connection if the manager waits in this very call."""
        line = self.line
        if line is None or line.sleeper.blocked.call is not Call.FUTEX:
            return None
        if not line.service.direct and not (line.service.queued and self.call.method in _OF_QUEUES):
            return None
        same = (line.service.ident, line.service.method) == (self.call.ident, self.call.method)
        return line if same else None

    @property
    def wants_lock(self) -> bool:
        waits = self.call.method == _WAIT and (self.served is not None or self.call.typeid in _WAITED_FOR)
        return waits or self.call.method == _ACQUIRE


def managed(sleepers: Sequence[Sleeper], known: Mapping[ThreadId, Reason], about: About) -> dict[ThreadId, Reason]:
    """Return the waits of clients and of their managers' threads, in place of those that were known of them."""
    if not any(each.proxy or each.service for each in sleepers):
        return {}
    peers = TcpPeers()
    lines = [line for each in sleepers if each.service and (line := _line(each, each.service, peers)) is not None]
    by_socket = {line.own: line for line in lines if line.own is not None}
    clients = [client for each in sleepers if (client := _client(each, by_socket, peers)) is not None]
    return _Managers(lines, clients, known, about).reasons()


def _line(sleeper: Sleeper, service: Service, peers: TcpPeers) -> _Line | None:
    found = _channel(sleeper, service.fd, peers)
    return None if found is None else _Line(sleeper, service, found.id, found.peer)


def _client(sleeper: Sleeper, by_socket: Mapping[ChannelId, _Line], peers: TcpPeers) -> _Client | None:
    call, blocked = sleeper.proxy, sleeper.blocked
    if call is None or blocked.call not in _RECEIVES or [each.fd for each in blocked.fds] != [call.fd]:
        return None
    found = _channel(sleeper, call.fd, peers)
    return None if found is None else _Client(sleeper, call, by_socket.get(found.peer) if found.peer else None)


def _channel(sleeper: Sleeper, fd: int, peers: TcpPeers) -> Channel | None:
    """Return the socket; of one over TCP with its peer, if that is on this machine."""
    try:
        found = channel(sleeper.thread.process.pid, fd)
    except PermissionError:
        return None
    if found is None or found.kind not in (ChannelKind.UNIX_SOCKET, ChannelKind.SOCKET):
        return None
    if found.kind is ChannelKind.SOCKET and found.id is not None and found.peer is None:
        inode = peers.peer(sleeper.thread.process.pid, found.id.number)
        return found if inode is None else replace(found, peer=found.id._replace(number=inode))
    return found


@dataclass(frozen=True)
class _Threads:
    """The living threads of a manager: the ids of those whose pthread id is known, those that are not known to do
    nothing but serve, and whether all are known.
    """

    tids: Mapping[int, int]
    others: tuple[int, ...]
    all_known: bool


def _threads(lines: Sequence[_Line], about: About) -> _Threads:
    """Sum up what the threads of one manager were seen to do, each in the sample of its own."""
    manager = lines[0].manager
    seen = [line.service.threads for line in lines]
    others = frozenset[int]().union(*(line.service.others for line in lines))
    known = frozenset[int]().union(*(each for each in seen if each is not None))
    living = thread_ids(manager.pid)
    found = {pthread: about.tid_of(manager, pthread) for pthread in known}
    tids = {pthread: tid for pthread, tid in found.items() if tid in living and tid is not None}
    serving = {tid for pthread, tid in tids.items() if pthread not in others}
    serving |= {line.sleeper.thread.tid for line in lines}
    return _Threads(tids, tuple(tid for tid in living if tid not in serving), set(living) <= set(tids.values()))


class _Managers:
    """All connections to managers of one pass."""

    def __init__(
        self, lines: Sequence[_Line], clients: Sequence[_Client], known: Mapping[ThreadId, Reason], about: About
    ) -> None:
        self._lines = {line.sleeper.thread: line for line in lines}
        self._clients = clients
        self._known = known
        self._about = about
        self._served_by = {client.line.sleeper.thread: client for client in clients if client.line is not None}
        of_manager: dict[ProcessId, list[_Line]] = {}
        for line in lines:
            of_manager.setdefault(line.manager, []).append(line)
        self._of_manager = of_manager
        self._threads = {manager: _threads(found, about) for manager, found in of_manager.items()}
        self._names: dict[tuple[ProcessId, int], tuple[bool, str]] = {}

    def reasons(self) -> dict[ThreadId, Reason]:
        for client in self._clients:
            if client.served is not None and client.call.name:
                self._learn(client.served.manager, client.call)
        served = {thread: reason for thread, line in self._lines.items() if (reason := self._of_service(line))}
        clients = {each.sleeper.thread: reason for each in self._clients if (reason := self._of_client(each, served))}
        return {**served, **clients}

    def _learn(self, manager: ProcessId, call: ProxyCall) -> None:
        """Record a name of the lock. Of several names that clients have for one, a module's counts, and of these the
        first.
        """
        name = (not call.named, call.name)
        self._names[manager, call.ident] = min(name, self._names.get((manager, call.ident), name))

    # -- a client

    def _of_client(self, client: _Client, served: Mapping[ThreadId, Reason]) -> Reason | None:
        line = client.served
        if line is not None and line.service.queued:
            return self._of_queue(client, line)
        if not client.wants_lock:
            return None
        reason = None if line is None else served.get(line.sleeper.thread)
        if reason is not None:
            wait = made(client.sleeper, reason.wait.target, reason.wait.wakers)
            return replace(reason, wait=replace(wait, holders=reason.wait.holders, bound=reason.wait.bound))
        if line is not None and line.sleeper.blocked.timed:
            wait = made(client.sleeper, self._target(line, client.call), Wakers((line.sleeper.thread,)))
            return Reason(replace(wait, timed=True))
        return self._of_unseen(client)

    def _of_unseen(self, client: _Client) -> Reason:
        """Make the wait of a client whose manager is not a member, is not asleep yet, or is on another machine."""
        call, known = client.call, self._known.get(client.sleeper.thread)
        target = Target(
            WaitKind.MANAGER_LOCK,
            call.name,
            address=call.ident,
            part_of=call.typeid or None,
            attribute=call.method,
            named=call.named,
        )
        if known is not None:
            return replace(known, wait=replace(known.wait, target=target))
        return Reason(made(client.sleeper, target, Wakers((), (), Doubt.OUTSIDER)))

    def _of_queue(self, client: _Client, line: _Line) -> Reason | None:
        """Make the wait of a client for what is in a queue of the manager, or for room in it."""
        known, call = self._known.get(client.sleeper.thread), client.call
        if known is None:
            return None
        if call.method == _GET:
            target = replace(known.wait.target, name=call.name, named=call.named)
        else:
            target = Target(
                WaitKind.SIGNAL,
                call.name or _QUEUE,
                process=line.manager,
                address=call.ident,
                part_of=_QUEUE,
                named=call.named,
            )
        wait = replace(made(client.sleeper, target, Wakers()), timed=line.sleeper.blocked.timed)
        return self._of_any(line, wait)

    # -- the manager's thread that serves it

    def _target(self, line: _Line, call: ProxyCall | None) -> Target:
        manager, ident = line.manager, line.service.ident
        unnamed, name = self._names.get((manager, ident), (True, ""))
        return Target(
            WaitKind.MANAGER_LOCK,
            name,
            process=manager,
            address=ident,
            part_of=(call.typeid if call is not None else "") or None,
            attribute=line.service.method,
            named=not unnamed,
        )

    def _of_service(self, line: _Line) -> Reason | None:
        """Make the wait of a manager's thread. It is idle: its client is the one that waits."""
        service, blocked, private = line.service, line.sleeper.blocked, line.sleeper.private
        if service.method not in (_ACQUIRE, _WAIT) or not service.direct:
            return None
        if blocked.call is not Call.FUTEX or blocked.timed or private is None or private.kind not in _LOCKS:
            return None
        client = self._served_by.get(line.sleeper.thread)
        target = self._target(line, client.call if client is not None else None)
        wait = replace(made(line.sleeper, target, Wakers()), idle=True)
        owner = private.owner_pthread if private.kind is not Private.CONDITION else None
        return self._of_any(line, wait) if owner is None else self._of_rlock(line, wait, owner)

    def _of_rlock(self, line: _Line, wait: Wait, owner: int) -> Reason:
        """Make the wait for a lock that knows its owner: the client that its thread serves."""
        manager, threads = line.manager, self._threads[line.manager]
        tid = threads.tids.get(owner) or self._about.tid_of(manager, owner)
        if tid is None:
            # Only a thread that lives can release it.
            return Reason(replace(wait, wakers=Wakers() if threads.all_known else Wakers((), (manager,))))
        holder = ThreadId(manager, tid)
        age_s = thread_age_s(manager.pid, tid)
        if age_s is None or age_s + _AGE_TICK_S < (wait.asleep_s or 0.0):
            # It was made after this wait began: most likely it has the pthread id of the one that took the lock.
            return Reason(replace(wait, wakers=Wakers((holder,))))
        client = self._served_by.get(holder)
        if client is not None:
            taker = client.sleeper.thread
            return Reason(replace(wait, wakers=Wakers((taker,)), holders=(taker,), bound=True))
        serves = self._lines.get(holder)
        held = replace(wait, wakers=Wakers((holder,)), holders=(holder,), bound=True)
        return Reason(held, client=serves.client if serves is not None else None)

    def _of_any(self, line: _Line, wait: Wait) -> Reason:
        """Make the wait for a lock that any client may release, or for a signal that any may give."""
        manager = line.manager
        peers = dict.fromkeys(each.client for each in self._of_manager[manager])
        channels = tuple((peer, True) for peer in peers if peer is not None)
        processes = tuple(sorted(set(self._about.members) - {manager}))
        others = tuple(ThreadId(manager, tid) for tid in self._threads[manager].others)
        doubt, pids = self._doubt(line, processes, len(channels))
        return Reason(replace(wait, wakers=Wakers(others, processes, doubt, pids)), channels)

    def _doubt(
        self, line: _Line, processes: Sequence[ProcessId], channels: int
    ) -> tuple[Doubt | None, tuple[int, ...]]:
        """Return who else may wake a client, and which PIDs that is about."""
        private = line.sleeper.private
        signal = private is not None and private.kind is Private.CONDITION
        handling = tuple(each.pid for each in processes if each in self._about.handlers)
        if channels > _MOST_CLIENTS:
            return Doubt.UNRECOGNISED, ()
        if not line.service.own_address:
            return Doubt.OUTSIDER, ()
        if signal and handling:
            return Doubt.HANDLER, handling
        return (Doubt.UNASKED if channels else None), ()
