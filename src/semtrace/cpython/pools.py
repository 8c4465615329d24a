"""Find the threads through which the result of a Pool's job comes: without them, who waits for it waits endlessly."""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.cpython.stack import PyFrame, PyThread, Sample
from semtrace.cpython.variables import local

# Lib/multiprocessing/pool.py, 3.8 to 3.15 (billiard and multiprocess have copies): ApplyResult.wait, IMapIterator.next.
# They wait until a thread of the pool has called `_set`, and keep the pool as `_pool` until then.
_FILE, _WAITS = "/pool.py", ("wait", "next")
# The thread that takes results in, and the one that hands out jobs: it sets a result too where it cannot send a job.
_HANDLERS = (("_result_handler", "_handle_results"), ("_task_handler", "_handle_tasks"))
_INNER_FRAMES = 6


def result_threads(sample: Sample, frames: Sequence[PyFrame]) -> tuple[int, ...] | None:
    """Return the pthread ids of the threads that may end the wait for the result of a Pool's job. None stands for
    another wait, or says that they cannot be known.

    A fork copies none of them, an exception in one of them ends it, and one that has handed out all its jobs and waits
    for more sets no result. `frames` is innermost first, and the thread has slept since before the sample.
    """
    frame = next((each for each in frames[:_INNER_FRAMES] if each.file.endswith(_FILE)), None)
    if frame is None or frame.function not in _WAITS or sample.cut:
        return None
    pool = sample.classes.attribute_of(local(sample, frame, "self"), "_pool")
    found = []
    for attribute, function in _HANDLERS:
        handler = sample.classes.attribute_of(pool, attribute)
        ident = sample.objects.integer(sample.classes.attribute_of(handler, "_ident"))
        if not ident:
            return None
        found += [each.pthread_id for each in sample.threads if each.pthread_id == ident and _may_set(each, function)]
    return tuple(found)


def _may_set(thread: PyThread, function: str) -> bool:
    """Return True unless the thread has become another one with the same id, or has no job left to hand out."""
    if not thread.frames:
        return True
    inner = thread.frames[0]
    if function == "_handle_tasks" and inner.function == function and inner.file.endswith(_FILE):
        return False
    return any(each.function == function and each.file.endswith(_FILE) for each in thread.frames)
