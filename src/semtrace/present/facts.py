"""The evidence of a finding: one function for each kind of fact, which yields its lines. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import singledispatch

from semtrace.model import (
    AboveMaximum,
    AllWaitThemselves,
    Asleep,
    At,
    Beat,
    Behind,
    BetweenRequests,
    BlockedOn,
    ChildEnded,
    ClientEnded,
    ClientMayHaveEnded,
    Contended,
    CopyOfEach,
    Crowd,
    DeadByFile,
    DiedOf,
    Doubt,
    EndedOtherwise,
    EndUnknown,
    Fact,
    FileLockLost,
    FileOpenTwice,
    FileShared,
    FileTakerEnded,
    ForkCopies,
    FreeElsewhere,
    GreenletMayHold,
    HandsLocksOver,
    HeldAtOnce,
    HeldBy,
    HolderNotSeen,
    HolderUnknown,
    InHandler,
    Inherited,
    KilledByTimeout,
    LastSeen,
    LeakedName,
    LeftInParent,
    LocalFile,
    LockedInParent,
    LockedPath,
    LockedSinceFork,
    LockFileNames,
    MasterStopped,
    MayBeGate,
    MayHaveHeld,
    MayStillWake,
    NobodyElse,
    OnlyOwnProcess,
    OutsiderMayRelease,
    Overlapped,
    OverReleased,
    PoolTerminated,
    PoolWithoutThreads,
    ResultsNotTaken,
    RingLink,
    RLockKeepsCount,
    RoomLeft,
    SemaphoreMayBeLock,
    SemaphoresInRing,
    SeparateSemaphores,
    SleeperDied,
    Stopped,
    TakenInOrder,
    TakerDied,
    TakerGone,
    TasksWait,
    ThreadMayRelease,
    TimeoutKills,
    UnfinishedTasks,
    UnitsLost,
    UnusedNames,
    UnusedRoom,
    VerdictReason,
    WaitedFor,
    WaiterHolds,
    WaitersHoldUnits,
    WaitsInCallback,
    WorkersBlocked,
    WorkersEndAtStart,
    YoungerWorker,
)
from semtrace.present.deaths import death_text
from semtrace.present.places import place_lines, place_text
from semtrace.present.waits import target_text
from semtrace.present.wording import (
    duration,
    lock_kind,
    lock_name,
    lock_names,
    pids,
    pids_of,
    thread_name,
)
from semtrace.text import age, clean, counted, counted_names, exact, size

_FEW = 4
_FEW_NAMES = 6
_FEW_SITES = 3


def fact_lines(fact: Fact) -> Iterator[str]:
    return _lines(fact)


@singledispatch
def _lines(fact: object) -> Iterator[str]:
    raise TypeError(f"no text for {type(fact).__name__}")


# -- who holds, who waits


@_lines.register
def _(fact: VerdictReason) -> Iterator[str]:
    yield clean(fact.reason)


@_lines.register
def _(fact: HolderUnknown) -> Iterator[str]:
    yield f"the holder is unknown: {clean(fact.reason)}"


@_lines.register
def _(fact: HeldBy) -> Iterator[str]:
    for hold in fact.holds[:_FEW]:
        doubt = "" if hold.certain else ", which is not certain"
        yield f"held by {thread_name(hold.thread)}{duration(hold.since)}{doubt}"
    yield from place_lines(hold.thread for hold in fact.holds)


@_lines.register
def _(fact: WaitedFor) -> Iterator[str]:
    many = counted(len(fact.threads), "thread waits", "threads wait")
    since = duration(fact.longest, "wait")
    one = ", the longest" if since and len(fact.threads) > 1 else ""
    yield f"{many} for it{one}{since}: {pids(each.pid for each in fact.threads)}"
    yield from place_lines(fact.threads)


@_lines.register
def _(fact: TasksWait) -> Iterator[str]:
    many = counted(fact.tasks, "task waits", "tasks wait")
    first = ", the first" if fact.tasks > 1 else ""
    yield f"{many} for it in the event loop of PID {fact.process.pid}{first}{duration(fact.since, 'wait')}"


@_lines.register
def _(fact: At) -> Iterator[str]:
    return place_lines(fact.threads)


# -- holders that died


@_lines.register
def _(fact: DeadByFile) -> Iterator[str]:
    if fact.alive_s is None or fact.gone_s is None:
        yield f"PID {fact.process.pid} had already ended when semtrace attached, {age(fact.watched_s)} ago"
    else:
        yield f"PID {fact.process.pid} was last seen alive {age(fact.alive_s)} ago, and gone {age(fact.gone_s)} ago"


@_lines.register
def _(fact: LastSeen) -> Iterator[str]:
    held = f", by then{duration(fact.held)}" if fact.held else ""
    if fact.held and fact.held.measure == "samples":
        held = f", in every sample over the {age(fact.held.seconds)} before, in one hold or in several"
    gone = f"it was gone {age(fact.ended_s)} ago"
    yield f"last seen held by {thread_name(fact.thread)} {age(fact.seen_s)} ago{held}; {gone}"


@_lines.register
def _(fact: HolderNotSeen) -> Iterator[str]:
    yield "the holder died before semtrace attached, or between two samples"


@_lines.register
def _(fact: KilledByTimeout) -> Iterator[str]:
    what = "that is" if fact.silent_s is None else f"its last heartbeat was {age(fact.silent_s)} old then,"
    yield f"{what} as long as gunicorn's --timeout ({fact.timeout_s:g} s) allows: gunicorn most likely killed it"


@_lines.register
def _(fact: EndedOtherwise) -> Iterator[str]:
    yield (
        f"that is far less than gunicorn's --timeout ({fact.timeout_s:g} s): most likely something else ended it "
        "(kill, out of memory); gunicorn's log names the signal"
    )


@_lines.register
def _(fact: DiedOf) -> Iterator[str]:
    yield f"it {death_text(fact.cause, fact.exit_code, fact.silent_s)}"


@_lines.register
def _(fact: MayHaveHeld) -> Iterator[str]:
    for each in fact.ended:
        how = death_text(each.cause, each.exit_code, each.silent_s)
        yield f"PID {each.process.pid} {how} before the lock was found orphaned; it may have held it"


@_lines.register
def _(fact: EndUnknown) -> Iterator[str]:
    yield (
        "how it ended is unknown; gunicorn's log says it next to that PID: WORKER TIMEOUT, or the signal (SIGKILL: "
        '"Perhaps out of memory?")'
    )


@_lines.register
def _(fact: TimeoutKills) -> Iterator[str]:
    yield (
        f"gunicorn kills a worker that does not answer for {fact.timeout_s:g} s (--timeout): if it did, its log says "
        "WORKER TIMEOUT and the PID"
    )


@_lines.register
def _(fact: UnitsLost) -> Iterator[str]:
    if not fact.proved and fact.for_s is not None:
        yield f"every sample over {age(fact.for_s)} saw it so"
    left = fact.maximum - fact.units
    yield f"{left} of its {counted(fact.maximum, 'unit')} {'is' if left == 1 else 'are'} left to use"


@_lines.register
def _(fact: TakerDied) -> Iterator[str]:
    yield f"PID {fact.process.pid} took it {age(fact.acquired_s)} ago and ended without a release"


@_lines.register
def _(fact: TakerGone) -> Iterator[str]:
    yield f"{thread_name(fact.thread)} had it {age(fact.seen_s)} ago, and was gone {age(fact.ended_s)} ago"


@_lines.register
def _(fact: SemaphoreMayBeLock) -> Iterator[str]:
    yield "a Semaphore does not keep the number it began with; if it is used as a lock, nobody will release it"


@_lines.register
def _(fact: BetweenRequests) -> Iterator[str]:
    took = f"the code that took it, at {clean(fact.site)}," if fact.site else "the code that took it"
    yield f"{thread_name(fact.thread)} waits for its next request or job: {took} ended without releasing it"


@_lines.register
def _(fact: GreenletMayHold) -> Iterator[str]:
    kind = f" (worker class {clean(fact.worker_class)})" if fact.worker_class else ""
    yield f"its threads run greenlets{kind}: a suspended greenlet, which shows in no stack, may hold it"


# -- rings


@_lines.register
def _(fact: RingLink) -> Iterator[str]:
    has = "took" if fact.took else "holds"
    wants = "it" if fact.wants == fact.holds else lock_kind(fact.wants)
    place = f", at {place_text(fact.thread.place)}" if fact.thread.place else ""
    yield f"{thread_name(fact.thread)} {has} {lock_kind(fact.holds)} and waits for {wants}{duration(fact.since)}{place}"


@_lines.register
def _(fact: Asleep) -> Iterator[str]:
    alone = fact.threads == 1
    end = ("it cannot go on" if alone else "none can go on before another does") if fact.for_ever else ""
    yield f"{'it has not' if alone else 'none of them has'} run for {age(fact.for_s)}{f': {end}' if end else ''}"


@_lines.register
def _(fact: MayBeGate) -> Iterator[str]:
    own = ["another thread of it"] if fact.own_thread else []
    others = [pids(fact.pids)] if fact.pids else []
    who = " or ".join([*own, *others]) or "a process that cannot be read"
    yield f"it is not inside `with` it, and {who} could release it: it may be a gate that is still to be opened"


@_lines.register
def _(fact: ThreadMayRelease) -> Iterator[str]:
    yield f"no thread is inside `with` {lock_name(fact.lock)}, so another thread of that process may release it"


@_lines.register
def _(fact: OutsiderMayRelease) -> Iterator[str]:
    yield f"{pids(fact.pids)}, outside this server, may release {lock_name(fact.lock)}"


@_lines.register
def _(fact: HandsLocksOver) -> Iterator[str]:
    yield (
        f"this program releases locks in other processes than took them ({lock_names(fact.locks)}), so another process "
        "may release these"
    )


@_lines.register
def _(fact: Behind) -> Iterator[str]:
    yield f"{counted(fact.threads, 'more thread waits', 'more threads wait')} behind {'it' if fact.of_one else 'them'}"


@_lines.register
def _(fact: SemaphoresInRing) -> Iterator[str]:
    which = counted(fact.count, "of these is a Semaphore", "of these are Semaphores")
    yield f"{which}: another process may still release a unit; if they are used as locks, nobody will"


# -- threads that are stuck


@_lines.register
def _(fact: BlockedOn) -> Iterator[str]:
    place = f", at {place_text(fact.thread.place)}" if fact.thread.place else ""
    waits = "waits" if fact.since is None else "has waited"
    yield f"{thread_name(fact.thread)} {waits} for {target_text(fact.target)}{duration(fact.since, 'wait')}{place}"


@_lines.register
def _(fact: WorkersBlocked) -> Iterator[str]:
    if fact.proven and fact.workers < fact.of_workers:  # else the title says it
        yield f"{fact.workers} of {counted(fact.of_workers, 'worker')} {'is' if fact.workers == 1 else 'are'} stuck"


@_lines.register
def _(fact: OnlyOwnProcess) -> Iterator[str]:
    every = "and it has only this thread" if fact.threads == 1 else f"and all {fact.threads} threads of it wait"
    yield f"only PID {fact.process.pid} itself can release it, {every}"


@_lines.register
def _(fact: FreeElsewhere) -> Iterator[str]:
    yield f"the copies in {pids_of(fact.processes)} are free"


@_lines.register
def _(fact: LockedInParent) -> Iterator[str]:
    yield (
        f"PID {fact.parent.pid}, its parent, has the same lock and held it in {fact.times} of "
        f"{counted(fact.samples, 'sample')}: the copy has most likely been locked since the fork"
    )


@_lines.register
def _(fact: InHandler) -> Iterator[str]:
    who = thread_name(fact.thread)
    yield f"{who} waits in a signal handler; the code that the handler interrupted cannot continue until it returns"


@_lines.register
def _(fact: SleeperDied) -> Iterator[str]:
    yield "notify() waits for a process that slept in the Condition, and that process died there"


@_lines.register
def _(fact: NobodyElse) -> Iterator[str]:
    if not fact.processes:
        yield "no living process can end this wait"
    elif len(fact.processes) == 1:
        yield f"only {pids_of(fact.processes)} itself could end this wait"
    else:
        yield f"only {pids_of(fact.processes)} could end this wait, and all of them wait"


@_lines.register
def _(fact: ClientEnded) -> Iterator[str]:
    yield "the client that took it has ended, and with it the only thread of the Manager that could release it"


@_lines.register
def _(fact: ClientMayHaveEnded) -> Iterator[str]:
    yield "a Manager does not record who holds it: a client that ended may have held it"


@_lines.register
def _(fact: UnfinishedTasks) -> Iterator[str]:
    yield f"{counted(fact.count, 'task is', 'tasks are')} unfinished: task_done() was not called for {_it(fact.count)}"


@_lines.register
def _(fact: WaitersHoldUnits) -> Iterator[str]:
    have = "holds" if len(fact.threads) == 1 else "hold"
    wait = "waits" if len(fact.threads) == 1 else "wait"
    yield f"{pids(each.pid for each in fact.threads)} {have} all units and {wait} for one more"


@_lines.register
def _(fact: WaiterHolds) -> Iterator[str]:
    yield f"{thread_name(fact.thread)} holds {lock_name(fact.lock)} while it waits itself"


@_lines.register
def _(fact: LeftInParent) -> Iterator[str]:
    was = "was" if len(fact.processes) == 1 else "were"
    more = "1 more thread waits" if fact.threads == 1 else f"{fact.threads} more threads wait"
    yield f"{pids_of(fact.processes)} {was} forked from PID {fact.parent.pid}, where {more} for work"
    yield "a fork copies only the thread that forks, so executors from before it have no threads here"


@_lines.register
def _(fact: PoolWithoutThreads) -> Iterator[str]:
    yield f"in {pids_of(fact.processes)} the Pool lacks the threads that pass its results on"
    yield "a fork does not copy them"


@_lines.register
def _(fact: PoolTerminated) -> Iterator[str]:
    yield f"in {pids_of(fact.processes)} the Pool was terminated before the result came, so it never will"
    yield "the end of a `with` block terminates its Pool, too"


@_lines.register
def _(fact: ResultsNotTaken) -> Iterator[str]:
    yield f"in {pids_of(fact.processes)} the Pool's thread that takes results in has ended, so no result is passed on"
    yield "an exception ends it: a callback that raises, or a result or an exception that cannot be unpickled"


@_lines.register
def _(fact: WaitsInCallback) -> Iterator[str]:
    yield f"{thread_name(fact.thread)} takes the Pool's results in, and waits for another of them in a callback"


def _ended_how(exit_code: int | None) -> str:
    if exit_code is None:
        return "ended"
    return f"ended by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"


@_lines.register
def _(fact: ChildEnded) -> Iterator[str]:
    ago = f", at least {age(fact.ended_s)} ago" if fact.ended_s is not None else ""
    yield f"PID {fact.child.pid}, a child of PID {fact.parent}, {_ended_how(fact.exit_code)}{ago}"


@_lines.register
def _(fact: WorkersEndAtStart) -> Iterator[str]:
    how = _ended_how(fact.exit_code)
    yield f"{fact.count} workers {how} as soon as they had started, in the last {age(fact.within_s)}"
    yield "new ones may end in the same way, and then their work is never done"


@_lines.register
def _(fact: YoungerWorker) -> Iterator[str]:
    later = age(fact.later_s)
    who = f"PID {fact.process.pid} was started {later} after the pool's first worker"
    yield f"{who}: it most likely replaced one that ended"


@_lines.register
def _(fact: MayStillWake) -> Iterator[str]:
    yield f"this is not proven: {_doubt(fact)}"


def _doubt(fact: MayStillWake) -> str:
    if not fact.pids and fact.doubt is None:
        return "another thread of these processes could still end the wait"
    return _DOUBTS[fact.doubt].format(pids=pids(fact.pids) if fact.pids else "another process")


_DOUBTS: Mapping[Doubt | None, str] = {
    None: "{pids} could still end the wait",
    Doubt.UNASKED: "other processes could still end the wait",
    Doubt.UNREADABLE: "{pids} cannot be read",
    Doubt.OUTSIDER: "{pids}, outside this server, uses it too",
    Doubt.HANDLER: "a signal handler in {pids} could still end the wait",
    Doubt.ALARM: "an alarm (SIGALRM) in {pids} could still interrupt the wait",
    Doubt.UNRECOGNISED: "semtrace does not know who could end the wait",
}


def _it(count: int) -> str:
    return "it" if count == 1 else "them"


# -- counts


@_lines.register
def _(fact: Inherited) -> Iterator[str]:
    claim = f"{pids_of(fact.processes)} {'counts' if len(fact.processes) == 1 else 'count'} it as held"
    yield f"{claim}, and did not take it" if fact.certain else f"{claim}; only {fact.maximum} can have taken it"


@_lines.register
def _(fact: RLockKeepsCount) -> Iterator[str]:
    yield "such a process never releases an RLock that it takes, as its count does not come down to 0"


@_lines.register
def _(fact: AllWaitThemselves) -> Iterator[str]:
    yield (
        f"each of them waits for it itself, and has not run for {age(fact.asleep_s)}: unless a process outside the "
        "server holds it, nobody will release it"
    )


@_lines.register
def _(fact: AboveMaximum) -> Iterator[str]:
    yield f"its value is {fact.value}, above its maximum of {fact.maximum}"


@_lines.register
def _(fact: OverReleased) -> Iterator[str]:
    yield f"PID {fact.process.pid} released it {counted(fact.times, 'time')} more than it took it"


# -- locks that do not exclude


@_lines.register
def _(fact: LockedSinceFork) -> Iterator[str]:
    yield f"it is locked in {pids_of(fact.processes)} in every sample, and no thread there is inside `with` it"


@_lines.register
def _(fact: ForkCopies) -> Iterator[str]:
    yield (
        "a fork copies a threading lock as it is, and nobody in the new process can release it; a lock that was taken "
        "by acquire() and kept looks the same"
    )


@_lines.register
def _(fact: Overlapped) -> Iterator[str]:
    often = f"in {fact.times} samples, first {age(fact.first_s)} ago" if fact.times > 1 else "in one sample"
    yield f"{fact.most} processes were inside at once, {often}; last {pids_of(fact.processes)}"


@_lines.register
def _(fact: CopyOfEach) -> Iterator[str]:
    yield f"each of {counted(len(fact.processes), 'worker')} has its own copy: {pids_of(fact.processes)}"


@_lines.register
def _(fact: SeparateSemaphores) -> Iterator[str]:
    what = "semaphores have" if fact.thing is None else "ones have"
    alone = "" if fact.thing is None else " and no child of it"
    yield f"{fact.count} separate {what} this name, each mapped by one worker{alone}: {pids_of(fact.processes)}"


@_lines.register
def _(fact: HeldAtOnce) -> Iterator[str]:
    yield f"{pids_of(fact.processes)} hold it at the same time"


# -- locks of files


@_lines.register
def _(fact: FileTakerEnded) -> Iterator[str]:
    keeps = "keeps" if len(fact.heirs) == 1 else "keep"
    yield f"PID {fact.taker}, which took it, has ended; {pids_of(fact.heirs)} {keeps} the open file, and so the lock"


@_lines.register
def _(fact: FileShared) -> Iterator[str]:
    have = "has" if len(fact.others) == 1 else "have"
    yield f"PID {fact.holder.pid} holds it through an open file that {pids_of(fact.others)} {have} since a fork"


@_lines.register
def _(fact: FileOpenTwice) -> Iterator[str]:
    have = "has" if len(fact.processes) == 1 else "have"
    yield f"{pids_of(fact.processes)} {have} the file open more than once; closing any of them drops the POSIX lock"


@_lines.register
def _(fact: FileLockLost) -> Iterator[str]:
    has = "has" if len(fact.processes) == 1 else "have"
    yield f"{pids_of(fact.processes)} {has} marked the lock as acquired, but the kernel knows no such lock on the file"
    yield "the kernel drops it when the process closes any other descriptor of the file"


@_lines.register
def _(fact: LocalFile) -> Iterator[str]:
    yield f"the file lies on the {fact.system} of this container: processes in other containers lock another file"


@_lines.register
def _(fact: LockedPath) -> Iterator[str]:
    yield f"it is a lock on the file {clean(fact.path)}"


@_lines.register
def _(fact: LockFileNames) -> Iterator[str]:
    if fact.host is not None:
        yield f"the lock file says that a process of host {clean(fact.host)} holds it"
    else:
        yield f"the lock file says that PID {fact.owner} holds it, which has ended"


# -- locks that keep others waiting


@_lines.register
def _(fact: Stopped) -> Iterator[str]:
    yield f"PID {fact.process.pid} is stopped"


@_lines.register
def _(fact: MasterStopped) -> Iterator[str]:
    yield f"PID {fact.process.pid} is the master: meanwhile it replaces no worker that dies, and ends none that hangs"


@_lines.register
def _(fact: Beat) -> Iterator[str]:
    if fact.ago_s is None:
        yield f"gunicorn kills a worker that is busy for {fact.timeout_s:g} s (--timeout)"
    else:
        yield f"its last heartbeat was {age(fact.ago_s)} ago; gunicorn kills it at {fact.timeout_s:g} s (--timeout)"


@_lines.register
def _(fact: Crowd) -> Iterator[str]:
    yield f"threads waited for {age(fact.waited_s)}, all together, in {age(fact.watched_s)}"


@_lines.register
def _(fact: Contended) -> Iterator[str]:
    counts = fact.statistics
    yield (
        f"{counts.contention or 0.0:.0%} of {counted(counts.acquired, 'acquire')} had to wait, "
        f"{exact(counts.wait.mean_s)} on average, {exact(counts.wait.max_s)} at most"
    )
    for site, each in [each for each in counts.sites if each[1].hold.count][:_FEW_SITES]:
        yield f"held {exact(each.hold.mean_s)} on average from {clean(site)}, {exact(each.hold.total_s)} in all"


@_lines.register
def _(fact: TakenInOrder) -> Iterator[str]:
    yield (
        f"{thread_name(fact.thread)} took {lock_name(fact.outer)} at {clean(fact.outer_site)} and, while it held that, "
        f"{lock_name(fact.inner)} at {clean(fact.inner_site)}"
    )


# -- /dev/shm


@_lines.register
def _(fact: UnusedNames) -> Iterator[str]:
    for each in fact.names[:_FEW_NAMES]:
        yield _unused(each)
    if len(fact.names) > _FEW_NAMES:
        yield f"and {len(fact.names) - _FEW_NAMES} more"


@_lines.register
def _(fact: UnusedRoom) -> Iterator[str]:
    if fact.names:
        sorts = counted_names(each.sort for each in fact.names)
        verb = "takes" if len(fact.names) == 1 else "take"
        yield f"{sorts} that no process uses {verb} {size(sum(each.size for each in fact.names))}"
    yield from map(_unused, fact.names[:_FEW_NAMES])
    if len(fact.names) > _FEW_NAMES:
        yield f"and {len(fact.names) - _FEW_NAMES} more, none of them larger"
    if fact.other:
        which = "other files take" if fact.names else "its files take"
        yield f"{which} {size(fact.other)}: they are in use, or semtrace cannot tell whether they are"


def _unused(name: LeakedName) -> str:
    takes = f", {size(name.size)}" if name.sort == "block" else ""
    return f"{clean(name.name)}{takes}, made {age(name.age_s)} ago by {clean(name.user)}"


@_lines.register
def _(fact: RoomLeft) -> Iterator[str]:
    yield "a new lock needs room there; without it, making one fails with ENOSPC: No space left on device"
