"""worker-died, where each worker ends as soon as it has started: nobody is left to do a job, and new ones fail too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from semtrace.model import (
    Advice,
    Death,
    Fact,
    Finding,
    FindingCode,
    Process,
    Remedy,
    Snapshot,
    ThreadRef,
    Wait,
    WorkersEndAtStart,
)
from semtrace.rules.basis import Limits
from semtrace.rules.knots import blocked, thread_ref
from semtrace.waits.workers import WORKING_ROLES, pool_workers, workers

# A worker that ends so young has done nothing but start.
_YOUNG_S = 2.0
# So many have to end within so long: one or two may have been killed.
_ENOUGH, _RECENT_S = 3, 10.0
# A result may be on its way for a moment.
_WAITED_S = 1.0
# Field 22 of /proc/PID/stat counts these (proc_pid_stat(5)): USER_HZ, 100 on all that Python runs on.
_TICKS_PER_S = 100


def dying_workers(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield a finding for each process whose workers all end at once, while it waits for one of them to do a job."""
    failed = _ended_young(snapshot)
    if len(failed) < _ENOUGH:
        return
    for wait in snapshot.waits.waits:
        if wait.pool and wait.pool.processes and not wait.timed and (wait.asleep_s or 0.0) >= _WAITED_S:
            own = [death for death in failed if death.parent == wait.pid]
            if len(own) >= _ENOUGH and _are_of_pool(wait, snapshot):
                yield _finding((thread_ref(wait),), (*blocked([wait]), _fact(own)))
    # A worker that ends while it sets itself up is not known to be one.
    led = any(each.role == "master" for each in snapshot.processes)
    known = [each for each in failed if each.role in WORKING_ROLES or (led and each.parent == snapshot.server.pid)]
    serving = [each for each in snapshot.processes if each.role in WORKING_ROLES]
    if len(known) >= _ENOUGH and _all_young(serving, snapshot):
        yield _finding((ThreadRef(snapshot.server.id),), (_fact(known),))


def may_be_dying(snapshot: Snapshot) -> bool:
    """Return True while it is too early to know: all workers are young, in a server that is not. If there are none at
    the moment, one has just failed.
    """
    living = [each for each in workers(snapshot) if each.id != snapshot.server.id]
    failed = any(death.exit_code != 0 for death in snapshot.deaths)
    old = snapshot.taken_at - snapshot.server.started_at > _RECENT_S
    return _all_young(living, snapshot) and (failed or (old and bool(living)))


def _are_of_pool(wait: Wait, snapshot: Snapshot) -> bool:
    """Return True if all children came after the wait for the Pool began, and none of them has done its work.

    Children of other kinds may fail as well, but then the workers of the Pool are older, or end in order.
    """
    since_at = snapshot.taken_at - (wait.asleep_s or 0.0)
    children = pool_workers({wait.pid}, snapshot)
    done = any(death.parent == wait.pid and death.exit_code == 0 for death in snapshot.deaths)
    return not done and _all_young(children, snapshot) and all(each.started_at > since_at for each in children)


def _ended_young(snapshot: Snapshot) -> list[Death]:
    """Return those that failed in their first seconds. Of what ended with 0, or nobody knows how, none is counted."""
    if not snapshot.processes:
        return []
    known = snapshot.processes[0]
    found = []
    for death in snapshot.deaths:
        started_at = known.started_at + (death.id.start_ticks - known.id.start_ticks) / _TICKS_PER_S
        lived_s = snapshot.taken_at - death.ended_s - started_at
        if death.exit_code and death.ended_s <= _RECENT_S and lived_s <= _YOUNG_S:
            found.append(death)
    return found


def _all_young(processes: Sequence[Process], snapshot: Snapshot) -> bool:
    return all(snapshot.taken_at - each.started_at <= _YOUNG_S for each in processes)


def _fact(failed: Sequence[Death]) -> WorkersEndAtStart:
    codes = {death.exit_code for death in failed}
    within_s = max(death.ended_s for death in failed)
    return WorkersEndAtStart(len(failed), within_s, codes.pop() if len(codes) == 1 else None)


def _finding(threads: tuple[ThreadRef, ...], facts: tuple[Fact, ...]) -> Finding:
    return Finding(
        code=FindingCode.WORKER_DIED,
        severity="error",
        locks=(),
        threads=threads,
        facts=facts,
        remedy=Remedy((Advice.SEE_WORKERS_OUTPUT,)),
    )
