"""Waits for the locks of a Manager: from a client's connection to the thread that serves it, and the lock it sleeps in.

That thread waits in the client's place, so what could wake it wakes the client. An RLock knows the thread that took it,
and so the client that this thread serves. Who holds any other lock is not known: each client, and whoever could become
one, may release it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from semtrace.cpython.managers import ProxyCall, Service
from semtrace.cpython.privatewait import WaitKind as Private
from semtrace.linux.blocked import Call
from semtrace.linux.channels import Channel, ChannelId, ChannelKind, channel
from semtrace.linux.process import thread_age_s, thread_ids
from semtrace.model import Doubt, ProcessId, Target, ThreadId, Wait, WaitKind, Wakers
from semtrace.observe.asleep import Sleeper
from semtrace.observe.waitfor import About, Reason, made

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


@dataclass(frozen=True, slots=True)
class _Line:
    """A connection at the manager's end: the thread that serves it, and the sockets of both ends."""

    sleeper: Sleeper
    service: Service
    own: ChannelId | None
    client: ChannelId | None

    @property
    def manager(self) -> ProcessId:
        return self.sleeper.thread.process


@dataclass(frozen=True, slots=True)
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
    def served_by(self) -> ThreadId | None:
        return None if self.line is None else self.line.sleeper.thread

    @property
    def wants_lock(self) -> bool:
        waits = self.call.method == _WAIT and (self.served is not None or self.call.typeid in _WAITED_FOR)
        return waits or self.call.method == _ACQUIRE


def managed(sleepers: Sequence[Sleeper], known: Mapping[ThreadId, Reason], about: About) -> dict[ThreadId, Reason]:
    """Return the waits of clients and of their managers' threads, in place of those that were known of them."""
    if not any(each.proxy or each.service for each in sleepers):
        return {}
    lines = [line for each in sleepers if each.service and (line := _line(each, each.service)) is not None]
    by_socket = {line.own: line for line in lines if line.own is not None}
    clients = [client for each in sleepers if (client := _client(each, by_socket)) is not None]
    return _Managers(lines, clients, known, about).reasons()


def _line(sleeper: Sleeper, service: Service) -> _Line | None:
    found = _channel(sleeper, service.fd)
    return None if found is None else _Line(sleeper, service, found.id, found.peer)


def _client(sleeper: Sleeper, by_socket: Mapping[ChannelId, _Line]) -> _Client | None:
    call, blocked = sleeper.proxy, sleeper.blocked
    if call is None or blocked.call not in _RECEIVES or [each.fd for each in blocked.fds] != [call.fd]:
        return None
    found = _channel(sleeper, call.fd)
    return None if found is None else _Client(sleeper, call, by_socket.get(found.peer) if found.peer else None)


def _channel(sleeper: Sleeper, fd: int) -> Channel | None:
    try:
        found = channel(sleeper.thread.process.pid, fd)
    except PermissionError:
        return None
    return found if found and found.kind in (ChannelKind.UNIX_SOCKET, ChannelKind.SOCKET) else None


@dataclass(frozen=True, slots=True)
class _Managers:
    """All connections to managers of one pass."""

    lines: Sequence[_Line]
    clients: Sequence[_Client]
    known: Mapping[ThreadId, Reason]
    about: About
    names: dict[tuple[ProcessId, int], tuple[bool, str]] = field(default_factory=dict)

    def reasons(self) -> dict[ThreadId, Reason]:
        for client in self.clients:
            if client.served is not None and client.call.name:
                self._learn(client.served.manager, client.call)
        found = {}
        for line in self.lines:
            if (reason := self._of_service(line)) is not None:
                found[line.sleeper.thread] = reason
        for client in self.clients:
            if (reason := self._of_client(client, found)) is not None:
                found[client.sleeper.thread] = reason
        return found

    def _learn(self, manager: ProcessId, call: ProxyCall) -> None:
        """Of several names that clients have for one lock, a module's is taken, and of these the first."""
        name = (not call.named, call.name)
        self.names[manager, call.ident] = min(name, self.names.get((manager, call.ident), name))

    def _of_client(self, client: _Client, served: Mapping[ThreadId, Reason]) -> Reason | None:
        thread, line = client.sleeper.thread, client.served
        known = self.known.get(thread)
        if line is not None and line.service.queued:
            return self._of_queue(client, line)
        if not client.wants_lock:
            return None
        if line is not None:
            reason = served.get(line.sleeper.thread)
            if reason is not None:
                wait = made(client.sleeper, reason.wait.target, reason.wait.wakers)
                return replace(reason, wait=replace(wait, holders=reason.wait.holders, bound=reason.wait.bound))
            if line.sleeper.blocked.timed:
                target = self._target(line, client.call.typeid)
                wakers_of = Wakers((line.sleeper.thread,))
                return Reason(replace(made(client.sleeper, target, wakers_of), timed=True))
        target = Target(
            WaitKind.MANAGER_LOCK,
            client.call.name,
            address=client.call.ident,
            part_of=client.call.typeid or None,
            attribute=client.call.method,
            named=client.call.named,
        )
        if known is not None:
            return replace(known, wait=replace(known.wait, target=target))
        return Reason(made(client.sleeper, target, Wakers((), (), Doubt.OUTSIDER)))  # it is reached over the network

    def _of_queue(self, client: _Client, line: _Line) -> Reason | None:
        """Make the wait of a client for what is in a queue of the manager, or for room in it."""
        known, call = self.known.get(client.sleeper.thread), client.call
        if known is None:
            return None
        if call.method == _GET:
            target = replace(known.wait.target, name=call.name, named=call.named)
        else:
            name, named = call.name or _QUEUE, bool(call.name) and call.named
            target = Target(
                WaitKind.SIGNAL, name, process=line.manager, address=call.ident, part_of=_QUEUE, named=named
            )
        wait = replace(made(client.sleeper, target, Wakers()), timed=line.sleeper.blocked.timed)
        return self._of_any(line, wait)

    def _target(self, line: _Line, kind: str | None) -> Target:
        manager, ident = line.manager, line.service.ident
        unnamed, name = self.names.get((manager, ident), (True, ""))
        return Target(
            WaitKind.MANAGER_LOCK,
            name,
            process=manager,
            address=ident,
            part_of=kind or None,
            attribute=line.service.method,
            named=not unnamed,
        )

    def _of_service(self, line: _Line) -> Reason | None:
        """Make the wait of a manager's thread. It is idle: its client is the one that waits."""
        service, blocked = line.service, line.sleeper.blocked
        if service.method not in (_ACQUIRE, _WAIT) or not service.direct:
            return None
        if blocked.call is not Call.FUTEX or blocked.timed:
            return None
        if line.sleeper.private is None or line.sleeper.private.kind not in _LOCKS:
            return None
        kind = next((each.call.typeid for each in self.clients if each.served is line), None)
        target = self._target(line, kind)
        wait = replace(made(line.sleeper, target, Wakers()), idle=True)
        return self._of_rlock(line, wait) or self._of_any(line, wait)

    def _of_rlock(self, line: _Line, wait: Wait) -> Reason | None:
        """Make the wait for a lock that knows its owner: the client that its thread serves."""
        private, manager = line.sleeper.private, line.manager
        owner = private.owner_pthread if private is not None and private.kind is not Private.CONDITION else None
        if owner is None:
            return None
        tid = self.about.tid_of(manager, owner)
        if tid is None:
            known = line.service.threads
            # Only a thread that lives can release it.
            wakers = Wakers() if known and owner not in known else Wakers((), (manager,))
            return Reason(replace(wait, wakers=wakers))
        age_s = thread_age_s(manager.pid, tid)
        if age_s is not None and age_s + _AGE_TICK_S < (wait.asleep_s or 0.0):
            # It was made after this wait began, and has the pthread id of the thread that took the lock and ended.
            return Reason(replace(wait, wakers=Wakers()))
        holder = ThreadId(manager, tid)
        held_by = next((each.sleeper.thread for each in self.clients if each.served_by == holder), None)
        if held_by is not None:
            return Reason(replace(wait, wakers=Wakers((held_by,)), holders=(held_by,), bound=True))
        client = next((each.client for each in self.lines if each.sleeper.thread == holder), None)
        return Reason(replace(wait, wakers=Wakers((holder,)), holders=(holder,), bound=True), client=client)

    def _of_any(self, line: _Line, wait: Wait) -> Reason:
        """Make the wait for a lock that any client may release, or for a signal that any may give."""
        manager, service = line.manager, line.service
        peers = dict.fromkeys(each.client for each in self.lines if each.manager == manager)
        channels = tuple((peer, True) for peer in peers if peer is not None)
        processes = tuple(sorted(set(self.about.members) - {manager}))
        doubt = Doubt.UNASKED if channels else None
        pids: tuple[int, ...] = ()
        signal = line.sleeper.private is not None and line.sleeper.private.kind is Private.CONDITION
        handling = [each.pid for each in processes if each in self.about.handlers]
        if len(channels) > _MOST_CLIENTS:
            doubt = Doubt.UNRECOGNISED
        elif not service.own_address:
            doubt = Doubt.OUTSIDER
        elif signal and handling:
            doubt, pids = Doubt.HANDLER, tuple(handling)
        if service.threads is None:
            processes = (*processes, manager)
        wakers = Wakers(tuple(self._others(line)), processes, doubt, pids)
        return Reason(replace(wait, wakers=wakers), channels)

    def _others(self, line: _Line) -> Iterator[ThreadId]:
        """Yield the threads of the manager that are not known to do nothing but serve."""
        service, manager = line.service, line.manager
        serving = {each.sleeper.thread.tid for each in self.lines if each.manager == manager}
        known = (service.threads or frozenset()) - service.others
        serving |= {tid for pthread in known if (tid := self.about.tid_of(manager, pthread)) is not None}
        yield from (ThreadId(manager, tid) for tid in thread_ids(manager.pid) if tid not in serving)
