"""Make a wait of a thread that sleeps in no lock of the snapshot: what it waits for, and who could wake it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import takewhile

from semtrace.cpython.privatewait import PrivateWait
from semtrace.cpython.privatewait import WaitKind as Private
from semtrace.cpython.stack import PyFrame
from semtrace.lazydata import dataclass, replace
from semtrace.linux.blocked import ANY_CHILD, Awaited, Call
from semtrace.linux.channels import Channel, ChannelId, ChannelKind, channel
from semtrace.linux.filelocks import FileLock, holders_by_fdinfo, path_of
from semtrace.linux.process import children, read_stat
from semtrace.model import (
    Doubt,
    FileLockType,
    Frame,
    Inside,
    PoolWait,
    ProcessId,
    SemId,
    Target,
    ThreadId,
    Wait,
    WaitKind,
    Wakers,
    is_own,
)
from semtrace.observe.blocked.asleep import Sleeper
from semtrace.observe.files.filewaits import FileWait

# The functions in which a thread of a pool waits for work, as designed, by the end of the file's path. They are in
# concurrent/futures/thread.py, process.py and multiprocessing/pool.py of 3.8 to 3.15; joblib and loky have copies.
_IDLE = (
    ("concurrent/futures/thread.py", "_worker"),
    ("concurrent/futures/process.py", "_process_worker"),
    ("concurrent/futures/process.py", "wait_result_broken_or_wakeup"),
    ("process_executor.py", "_process_worker"),
    ("process_executor.py", "wait_result_broken_or_wakeup"),
    ("/pool.py", "worker"),
    ("/pool.py", "_handle_tasks"),
    ("/pool.py", "_handle_results"),
    ("/pool.py", "_wait_for_updates"),
    ("/pool.py", "Workers"),
    ("/queues.py", "_feed"),
    ("resource_tracker.py", "main"),
    ("/forkserver.py", "main"),
    ("/managers.py", "serve_client"),
    ("/managers.py", "accepter"),
)
_INNER_FRAMES = 8
_INSIDE = {Private.BUFFERED: Inside.FILE, Private.LOGGING: Inside.LOGGING, Private.IMPORT_LOCK: Inside.IMPORT}
_NEVER_IDLE = (WaitKind.PIPE_WRITE, WaitKind.PROCESS_END, WaitKind.THREAD_END)


@dataclass(frozen=True)
class About:
    """Other facts about the server. It has the living children of each process, the names of its private locks by their
    address, and the threads by pthread id. The file locks of the machine are asked for once, if a process outside the
    server waits. It also has the processes whose program handles signals itself, and the waits of the server's threads
    for file locks.
    """

    children: Mapping[ProcessId, Collection[ProcessId]]
    names: Callable[[ProcessId], Mapping[int, str]]
    tid_of: Callable[[ProcessId, int], int | None]
    files: Callable[[], Sequence[FileLock]]
    members: Collection[ProcessId]
    handlers: Collection[ProcessId]
    file_waits: Mapping[ThreadId, FileWait] = field(default_factory=dict)


@dataclass(frozen=True)
class Reason:
    """A wait before it is known who has the other ends. `channels` are those to be asked for, with the direction in
    which the thread waits: `writers` may wake it, or readers. `client` is the channel of the process that the holder
    acts for.
    """

    wait: Wait
    channels: tuple[tuple[ChannelId, bool], ...] = ()
    client: ChannelId | None = None


def is_idle(frames: Sequence[PyFrame] | None) -> bool:
    """Return True for a thread of a pool or a library that waits for work, as designed: in no code of the user."""
    inner = takewhile(lambda frame: not is_own(frame.file), (frames or ())[:_INNER_FRAMES])
    return any(frame.file.endswith(file) and frame.function == name for frame in inner for file, name in _IDLE)


def stack(frames: Sequence[PyFrame] | None) -> tuple[Frame, ...] | None:
    """Return the frames as the model has them; a frame without a line has 0."""
    if frames is None:
        return None
    return tuple(Frame(frame.function, frame.file, frame.line or 0) for frame in frames)


def reason(sleeper: Sleeper, about: About) -> Reason | None:
    """Return the wait of a thread; None for one that work, the network or time will wake. Raises PermissionError."""
    blocked = sleeper.blocked
    if blocked.timed:
        return None
    if blocked.call is Call.FUTEX:
        return _futex(sleeper, about)
    if blocked.call is Call.WAIT:
        return _child(sleeper, blocked.child, about)
    if sleeper.joins is not None:
        return _child(sleeper, sleeper.joins, about)
    if blocked.call in (Call.FLOCK, Call.FCNTL_LOCK):
        return _file(sleeper, about)
    if blocked.call in (Call.READ, Call.WRITE, Call.RECEIVE, Call.SEND, Call.POLL, Call.SELECT):
        return _descriptors(sleeper)
    return None


def made(sleeper: Sleeper, target: Target, wakers: Wakers) -> Wait:
    """Return the untimed wait of a thread for this target."""
    return Wait(
        sleeper.thread,
        target,
        timed=False,
        wakers=wakers,
        asleep_s=sleeper.asleep_s,
        for_s=sleeper.asleep_s,
        stack=stack(sleeper.frames),
        in_handler=sleeper.in_handler,
        idle=target.kind not in _NEVER_IDLE and target.inside is None and is_idle(sleeper.frames),
    )


def _futex(sleeper: Sleeper, about: About) -> Reason | None:
    """Make the wait of a thread in futex: on private memory only threads of its own process can wake it."""
    process, blocked, private = sleeper.thread.process, sleeper.blocked, sleeper.private
    if not blocked.private:
        target = Target(WaitKind.UNKNOWN, "", process=process, address=blocked.futex, named=False)
        return Reason(made(sleeper, target, Wakers((), (), Doubt.UNRECOGNISED)))
    if private is None or private.kind is Private.UNKNOWN:
        target = Target(WaitKind.UNKNOWN, "", process=process, address=blocked.futex, named=False)
        return Reason(made(sleeper, target, _unknown(sleeper, about)))
    if private.kind is Private.GIL:
        return None
    if private.kind is Private.THREAD_END:
        return _thread_end(sleeper, private, about)
    kind = WaitKind.SIGNAL if private.kind is Private.CONDITION else WaitKind.PRIVATE_LOCK
    name, named = _name(sleeper, private, about)
    variable = "" if name else _variable(private)
    name = name or variable or private.module or private.primitive or ""
    whole = private.primitive if kind is WaitKind.SIGNAL else None
    address = private.lock or blocked.futex
    target = Target(
        kind,
        name,
        process=process,
        address=address,
        part_of=whole,
        named=named,
        variable=bool(variable),
        inside=_INSIDE.get(private.kind),
    )
    owner = (
        about.tid_of(process, private.owner_pthread) if private.owner_pthread and kind is not WaitKind.SIGNAL else None
    )
    if owner is None:
        # A handler can set an Event; it does not release somebody's lock.
        able = _able(sleeper)
        wakers = _or_handlers(able, process, about) if kind is WaitKind.SIGNAL else able
        return Reason(replace(made(sleeper, target, wakers), pool=_pool(private)))
    holder = ThreadId(process, owner)
    return Reason(replace(made(sleeper, target, Wakers((holder,))), holders=(holder,), bound=True))


def _pool(private: PrivateWait) -> PoolWait | None:
    found = private.result
    return None if found is None else PoolWait(found.handlers, found.processes, found.terminated)


def _unknown(sleeper: Sleeper, about: About) -> Wakers:
    """Return who can wake a thread of which nobody knows what it waits for: it may be an Event that a handler sets."""
    process = sleeper.thread.process
    if not sleeper.read:
        return Wakers((), (process,), Doubt.UNRECOGNISED)
    return _or_handlers(Wakers((), (process,)), process, about)


def _or_handlers(wakers: Wakers, process: ProcessId, about: About) -> Wakers:
    return replace(wakers, doubt=Doubt.HANDLER, pids=(process.pid,)) if process in about.handlers else wakers


def _able(sleeper: Sleeper) -> Wakers:
    """Return who can give a private signal: any thread of the process, but a Pool's result comes by its own threads."""
    process = sleeper.thread.process
    if sleeper.bringers is None:
        return Wakers((), (process,))
    return Wakers(tuple(ThreadId(process, tid) for tid in sleeper.bringers))


def _thread_end(sleeper: Sleeper, private: PrivateWait, about: About) -> Reason:
    process, awaited = sleeper.thread.process, private.thread
    tid = about.tid_of(process, awaited.pthread_id) if awaited and awaited.pthread_id else None
    name = (awaited and awaited.name) or ""
    target = Target(WaitKind.THREAD_END, name, process=process, address=tid or sleeper.blocked.futex, named=bool(name))
    wakers = Wakers((), (process,)) if tid is None else Wakers((ThreadId(process, tid),))
    return Reason(made(sleeper, target, wakers))


def _name(sleeper: Sleeper, private: PrivateWait, about: About) -> tuple[str, bool]:
    """Return the name of a private lock or signal, and whether the source has it so; "" if only a variable has it."""
    known = about.names(sleeper.thread.process).get(private.lock or 0)
    if known is not None:
        return known, True
    if private.primitive and private.kind is Private.CONDITION:
        return private.primitive, False
    if private.member is not None:
        return f"{private.member.owner}.{private.member.label}", False
    return "", False


def _variable(private: PrivateWait) -> str:
    """Return the variable of a function that has the lock, the user's own before a library's."""
    way = private.user_way or next((way for way in private.ways if way.variable), None)
    return "" if way is None else way.text


def _child(sleeper: Sleeper, child: int | None, about: About) -> Reason | None:
    process = sleeper.thread.process
    if child is None:
        return Reason(made(sleeper, Target(WaitKind.PROCESS_END, ""), Wakers((), (), Doubt.UNREADABLE)))
    if child == ANY_CHILD:
        every = tuple(sorted({*about.children.get(process, ()), *_living_children(process)}))
        return Reason(made(sleeper, Target(WaitKind.PROCESS_END, "", address=process.pid), Wakers((), every)))
    stat = read_stat(child)
    ended = stat is None or stat.ended
    awaited = None if stat is None else stat.id
    target = Target(WaitKind.PROCESS_END, "", process=awaited)
    return None if ended or awaited is None else Reason(made(sleeper, target, Wakers((), (awaited,))))


def _living_children(process: ProcessId) -> Iterator[ProcessId]:
    """Yield also those that are no members of the server."""
    stat = read_stat(process.pid)
    for pid in children(stat) if stat is not None and stat.id == process else ():
        child = read_stat(pid)
        if child is not None and child.ppid == process.pid and not child.ended:
            yield child.id


def _file(sleeper: Sleeper, about: About) -> Reason | None:
    """Make the wait for a file lock: those who hold it by the kernel's list, or by a descriptor they inherited."""
    known = about.file_waits.get(sleeper.thread)
    if known is not None:
        wakers, single = _file_wakers(known, None)
        return Reason(replace(made(sleeper, _file_target(known), wakers), holders=single))
    pid = sleeper.thread.process.pid
    wanted = [lock for lock in about.files() if any(_asks(each, sleeper) for each in lock.waiters)]
    if not wanted:
        return None
    file, kind = wanted[0].file, wanted[0].type
    takers = {lock.pid for lock in wanted if lock.pid is not None}
    held, hidden = holders_by_fdinfo({*takers, *(process.pid for process in about.members)}, {file})
    # An flock is its open file's: its taker may have closed that, and left it to a child.
    holders = {each.pid for each in held if each.lock.type is kind}
    holders |= takers if kind is FileLockType.POSIX else takers.intersection(hidden)
    path = path_of(pid, file) or next((each.path for each in held), None)
    stats = [stat for holder in sorted(holders) if (stat := read_stat(holder)) is not None and not stat.ended]
    processes = tuple(stat.id for stat in stats)
    unseen = hidden or not processes  # a process outside the server may have the descriptor of one that died
    wakers = Wakers((), processes, Doubt.UNREADABLE if unseen else None, hidden)
    target = Target(WaitKind.FILE_LOCK, path or "", address=_number(file), path=path)
    single = tuple(ThreadId(stat.id, stat.id.pid) for stat in stats if stat.threads == 1)
    wait = made(sleeper, target, wakers)
    return Reason(replace(wait, holders=single) if processes and len(single) == len(processes) else wait)


def renewed(wait: Wait, known: FileWait, single: Collection[ProcessId]) -> Wait:
    """Return a thread's wait for a file lock with the holders of now: they change while the thread does not run."""
    wakers, holders = _file_wakers(known, single)
    return replace(wait, target=_file_target(known), wakers=wakers, holders=holders)


def _file_wakers(wait: FileWait, single: Collection[ProcessId] | None) -> tuple[Wakers, tuple[ThreadId, ...] | None]:
    """Return who could end the wait, and the threads that hold the lock, None where a process has several. `single`
    are the processes of one thread; without it they are asked.
    """
    doubt = None if wait.complete else Doubt.UNREADABLE
    wakers = Wakers((), wait.holders, doubt, wait.hidden)
    alone = [each for each in wait.holders if (_has_one_thread(each) if single is None else each in single)]
    known = bool(alone) and len(alone) == len(wait.holders)
    return wakers, tuple(ThreadId(each, each.pid) for each in alone) if known else None


def _has_one_thread(process: ProcessId) -> bool:
    stat = read_stat(process.pid)
    return stat is not None and stat.id == process and stat.threads == 1


def _file_target(wait: FileWait) -> Target:
    return Target(WaitKind.FILE_LOCK, wait.path or "", address=_number(wait.file), path=wait.path)


def polled(wait: FileWait, single: Collection[ProcessId]) -> Wait:
    """Return the wait of a thread that polls: it runs now and then, but stays in the same call."""
    poller = wait.poller
    assert poller is not None
    wakers, holders = _file_wakers(wait, single)
    return Wait(
        wait.thread,
        _file_target(wait),
        timed=poller.polling.timed,
        wakers=wakers,
        asleep_s=poller.for_s if poller.unbroken else None,
        for_s=poller.for_s,
        holders=holders,
        stack=stack(poller.frames),
    )


def _number(file: SemId) -> int:
    """Return device and inode as one number."""
    return (file.major << 32 | file.minor) << 64 | file.inode


def _asks(waiter: FileLock, sleeper: Sleeper) -> bool:
    return waiter.pid in (sleeper.thread.process.pid, sleeper.thread.tid)


def _descriptors(sleeper: Sleeper) -> Reason | None:
    """Make the wait for pipes and socket pairs; None if anything else may wake the thread as well."""
    if not sleeper.blocked.complete or not sleeper.blocked.fds:
        return None
    found: dict[tuple[ChannelId, bool], None] = {}
    ended: list[ProcessId] = []
    for awaited in sleeper.blocked.fds:
        other = channel(sleeper.thread.process.pid, awaited.fd)
        if other is None:
            return None
        if other.kind is ChannelKind.PIDFD:
            stat = read_stat(other.pid) if other.pid is not None else None
            if stat is None or stat.ended:
                return None
            ended.append(stat.id)
            continue
        ends = _other_ends(other, awaited)
        if ends is None:
            return None
        found.update(dict.fromkeys(ends))
    return _of_channels(sleeper, tuple(found), tuple(ended))


def _other_ends(other: Channel, awaited: Awaited) -> list[tuple[ChannelId, bool]] | None:
    """Return whose writers and readers may wake the thread, None if that is the outside world."""
    end = other.other_end
    # A FIFO has a name by which anybody may open it; an eventfd may be the kernel's to signal.
    if end is None or other.path is not None or other.kind is ChannelKind.EVENTFD:
        return None
    return [(end, True)] * awaited.readable + [(end, False)] * awaited.writable


def _of_channels(
    sleeper: Sleeper, channels: tuple[tuple[ChannelId, bool], ...], ended: tuple[ProcessId, ...]
) -> Reason | None:
    if not channels:
        if not ended:
            return None
        target = Target(WaitKind.PROCESS_END, "", process=ended[0])
        return Reason(made(sleeper, target, Wakers((), ended)))
    first, writers = channels[0]
    kind = WaitKind.PIPE_READ if writers else WaitKind.PIPE_WRITE
    target = Target(kind, "", address=first.number)
    return Reason(made(sleeper, target, Wakers((), ended, Doubt.UNASKED)), channels)
