"""Make a wait of a thread that sleeps in no lock of the snapshot: what it waits for, and who could wake it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from semtrace.cpython.stack import PyFrame
from semtrace.linux.blocked import ANY_CHILD, Awaited, Call
from semtrace.linux.channels import Channel, ChannelId, ChannelKind, channel
from semtrace.linux.process import read_stat
from semtrace.model import Doubt, Frame, ProcessId, Target, Wait, WaitKind, Wakers, is_own
from semtrace.observe.asleep import Sleeper

# The functions in which a thread of a pool waits for work, as designed, by the end of the file's path:
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
_NEVER_IDLE = (WaitKind.PIPE_WRITE, WaitKind.PROCESS_END, WaitKind.THREAD_END)

# Lib/threading.py, 3.8 to 3.15: Thread.join and what it calls, the end of the program; Condition.wait.
_THREADING = "/threading.py"
_JOINS = ("_wait_for_tstate_lock", "join", "_shutdown")
_WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Reason:
    """A wait before it is known who has the other ends. `channels` are those to be asked for, with the direction in
    which the thread waits: `writers` may wake it, or readers.
    """

    wait: Wait
    channels: tuple[tuple[ChannelId, bool], ...] = ()


def is_idle(frames: Sequence[PyFrame] | None) -> bool:
    """Return True for a thread of a pool or a library that waits for work, as designed: in no code of the user."""
    inner = takewhile(lambda frame: not is_own(frame.file), (frames or ())[:_INNER_FRAMES])
    return any(frame.file.endswith(file) and frame.function == name for frame in inner for file, name in _IDLE)


def stack(frames: Sequence[PyFrame] | None) -> tuple[Frame, ...] | None:
    """Return the frames as the model has them; a frame without a line has 0."""
    if frames is None:
        return None
    return tuple(Frame(frame.function, frame.file, frame.line or 0) for frame in frames)


def reason(sleeper: Sleeper, parents: Mapping[ProcessId, Collection[ProcessId]]) -> Reason | None:
    """Return the wait of a thread; None for one that work, the network or time will wake, and where nothing is known.

    `parents` has the living children of each process. Raises PermissionError.
    """
    blocked = sleeper.blocked
    if blocked.timed:
        return None
    if blocked.call is Call.FUTEX:
        return _futex(sleeper)
    if blocked.call is Call.WAIT:
        return _child(sleeper, blocked.child, parents)
    if sleeper.joins is not None:
        return _child(sleeper, sleeper.joins, parents)
    if blocked.call in (Call.READ, Call.WRITE, Call.RECEIVE, Call.SEND, Call.POLL, Call.SELECT):
        return _descriptors(sleeper)
    return None


def _made(sleeper: Sleeper, target: Target, wakers: Wakers) -> Wait:
    return Wait(
        sleeper.thread,
        target,
        timed=False,
        wakers=wakers,
        asleep_s=sleeper.asleep_s,
        for_s=sleeper.asleep_s,
        stack=stack(sleeper.frames),
        in_handler=sleeper.in_handler,
        idle=target.kind not in _NEVER_IDLE and is_idle(sleeper.frames),
    )


def _futex(sleeper: Sleeper) -> Reason | None:
    """Make the wait of a thread in futex: on private memory only its own process can wake it."""
    process, blocked = sleeper.thread.process, sleeper.blocked
    if not blocked.private:
        target = Target(WaitKind.UNKNOWN, "", process=process, address=blocked.futex)
        return Reason(_made(sleeper, target, Wakers((), (), Doubt.UNRECOGNISED)))
    target = Target(_private_kind(sleeper.frames), "", process=process, address=blocked.futex, named=False)
    return Reason(_made(sleeper, target, Wakers((), (process,))))


def _private_kind(frames: Sequence[PyFrame] | None) -> WaitKind:
    if not frames:
        return WaitKind.UNKNOWN
    if frames[0].file.endswith(_THREADING):
        if frames[0].function in _JOINS:
            return WaitKind.THREAD_END
        if frames[0].function == _WAIT:
            return WaitKind.SIGNAL
    return WaitKind.PRIVATE_LOCK


def _child(sleeper: Sleeper, child: int | None, parents: Mapping[ProcessId, Collection[ProcessId]]) -> Reason | None:
    process = sleeper.thread.process
    if child is None:
        return Reason(_made(sleeper, Target(WaitKind.PROCESS_END, ""), Wakers((), (), Doubt.UNREADABLE)))
    if child == ANY_CHILD:
        every = tuple(parents.get(process, ()))
        return Reason(_made(sleeper, Target(WaitKind.PROCESS_END, "", address=process.pid), Wakers((), every)))
    stat = read_stat(child)
    ended = stat is None or stat.ended
    awaited = None if stat is None else stat.id
    target = Target(WaitKind.PROCESS_END, "", process=awaited)
    return None if ended or awaited is None else Reason(_made(sleeper, target, Wakers((), (awaited,))))


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
    if end is None or other.kind is ChannelKind.EVENTFD:
        return None
    return [(end, True)] * awaited.readable + [(end, False)] * awaited.writable


def _of_channels(
    sleeper: Sleeper, channels: tuple[tuple[ChannelId, bool], ...], ended: tuple[ProcessId, ...]
) -> Reason | None:
    if not channels:
        if not ended:
            return None
        target = Target(WaitKind.PROCESS_END, "", process=ended[0])
        return Reason(_made(sleeper, target, Wakers((), ended)))
    first, writers = channels[0]
    kind = WaitKind.PIPE_READ if writers else WaitKind.PIPE_WRITE
    target = Target(kind, "", address=first.number)
    return Reason(_made(sleeper, target, Wakers((), ended, Doubt.UNASKED)), channels)
