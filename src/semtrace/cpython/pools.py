"""Find what a thread waits for that waits for the result of a Pool's job, and the threads through which it comes."""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.cpython.stack import PyFrame, PyThread, Sample
from semtrace.cpython.variables import local
from semtrace.lazydata import dataclass

# Lib/multiprocessing/pool.py, 3.8 to 3.15 (billiard and multiprocess have copies): ApplyResult.wait, IMapIterator.next.
# They wait until a thread of the pool has called `_set`, and keep the pool as `_pool` until then.
_FILE, _WAITS = "/pool.py", ("wait", "next")
# The thread that takes results in, the one that hands out jobs, which sets a result too where it cannot send a job, and
# the one that replaces workers.
_RESULTS, _TASKS, _WORKERS = "_result_handler", "_task_handler", "_worker_handler"
_FUNCTIONS = {_RESULTS: "_handle_results", _TASKS: "_handle_tasks", _WORKERS: "_handle_workers"}
_TERMINATED = "TERMINATE"
_INNER_FRAMES = 6


@dataclass(frozen=True)
class PoolResult:
    """The Pool of whose jobs a thread awaits a result. `threads` are the pthread ids of those that may bring it.

    A fork copies none of them, an exception in one of them ends it, and one that has handed out all its jobs sets no
    result. `handlers` is how many of the three threads of the pool live. `processes`: its workers are processes, and
    not threads as those of a ThreadPool. `terminated`: terminate() was called, also by the end of `with`.
    """

    threads: tuple[int, ...]
    handlers: int
    processes: bool
    terminated: bool


def pool_result(sample: Sample, frames: Sequence[PyFrame]) -> PoolResult | None:
    """Return None for another wait, or if the pool cannot be read. `frames` is innermost first; the thread has slept
    since before the sample.
    """
    frame = next((each for each in frames[:_INNER_FRAMES] if each.file.endswith(_FILE)), None)
    if frame is None or frame.function not in _WAITS or sample.cut:
        return None
    attribute = sample.classes.attribute_of
    pool = attribute(local(sample, frame, "self"), "_pool")
    idents = {each: sample.objects.integer(attribute(attribute(pool, each), "_ident")) for each in _FUNCTIONS}
    queue = sample.classes.of(attribute(pool, "_inqueue"))
    if queue is None or None in idents.values():
        return None
    living = {
        each: thread
        for each, ident in idents.items()
        for thread in sample.threads
        if thread.pthread_id == ident and _runs(thread, _FUNCTIONS[each])
    }
    able = [each for each in living if each == _RESULTS or (each == _TASKS and not _is_at_rest(living[each]))]
    return PoolResult(
        threads=tuple(living[each].pthread_id for each in able),
        handlers=len(living),
        processes=queue.module != "_queue",  # ThreadPool._setup_queues: queue.SimpleQueue, which is written in C
        terminated=sample.objects.text(attribute(pool, "_state")) == _TERMINATED,
    )


def _runs(thread: PyThread, function: str) -> bool:
    """Return False if another thread has its id by now."""
    return not thread.frames or any(each.function == function and each.file.endswith(_FILE) for each in thread.frames)


def _is_at_rest(thread: PyThread) -> bool:
    """Return True for a thread that waits for jobs to hand out: in no code of the program, as a source of jobs is."""
    inner = thread.frames[0] if thread.frames else None
    return inner is not None and inner.function == _FUNCTIONS[_TASKS] and inner.file.endswith(_FILE)
