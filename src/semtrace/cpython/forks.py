"""Find where a forked child's own stack begins: below that, the frames are its parent's, as they were at the fork."""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.allowance import Allowance
from semtrace.cpython.bytecode import lookups
from semtrace.cpython.stack import PyFrame, Sample

# Functions that call os.fork(): a part of their file's path, and what only the child calls from there ("": anything
# behind the fork). Lib/multiprocessing/popen_fork.py and forkserver.py, 3.8 to 3.15 (billiard, multiprocess and loky
# have copies); gunicorn/arbiter.py (20 to 27); rq/worker.py, from 3.0 on rq/worker/worker_classes.py;
# Lib/socketserver.py ForkingMixIn.
_FORKING = (
    ("/popen_fork.py", "_launch", "_bootstrap"),
    ("/forkserver.py", "main", "_serve_one"),
    ("/gunicorn/arbiter.py", "spawn_worker", ""),
    ("/rq/worker", "fork_work_horse", ""),
    ("/socketserver.py", "process_request", ""),
)
MOST_S = 0.5
_FORK = frozenset({"fork", "forkpty"})


def own_frames(sample: Sample, frames: Sequence[PyFrame], forked: bool = False) -> tuple[PyFrame, ...]:
    """Return the frames that a process has begun itself, innermost first: all, if it is not a forked child.

    Known libraries are recognised by their functions. `forked`: the caller knows that the process was forked and has
    executed nothing since. Then any function that calls `os.fork` counts: it is kept, because the child is at this line
    of it, but nothing below. A function that forked before looks the same, so never pass `forked` for a parent. Out of
    time, nothing is cut.
    """
    allowance = Allowance(MOST_S)
    for position, frame in enumerate(frames[1:], 1):
        if not allowance.lasts():
            break
        if _launches(sample, frame, frames[position - 1]):
            return tuple(frames[:position])
        if forked and _has_forked(sample, frame):
            return tuple(frames[: position + 1])
    return tuple(frames)


def _launches(sample: Sample, frame: PyFrame, called: PyFrame) -> bool:
    for path, function, child in _FORKING:
        if frame.function == function and path in frame.file:
            return called.function == child if child else _has_forked(sample, frame)
    return False


def _has_forked(sample: Sample, frame: PyFrame) -> bool:
    """Return True if the frame is behind a call of fork in its code."""
    return any(found.offset < frame.instruction for found in lookups(sample.objects, frame.code, _FORK))
