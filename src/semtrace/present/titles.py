"""The title of a finding: the fault, and who suffers from it. Pure.

Each code has a function. What passes by has a past form too, for a finding that is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from semtrace.model import (
    AboveMaximum,
    BlockedOn,
    Crowd,
    FileTakerEnded,
    Finding,
    FindingCode,
    HeldBy,
    LockedSinceFork,
    LockFileNames,
    MasterStopped,
    OverReleased,
    RingLink,
    RoomLeft,
    SeparateSemaphores,
    TakerDied,
    TakerGone,
    TasksWait,
    ThreadRef,
    UnitsLost,
    UnusedNames,
    WorkersBlocked,
    WorkersEndAtStart,
)
from semtrace.present.waits import target_text
from semtrace.present.wording import class_name, duration, lock_name, lock_names, pids, thread_name, with_article
from semtrace.text import clean, counted, counted_names, size

_FEW = 3


def title(finding: Finding) -> str:
    return TITLES[finding.code](finding)


def _orphaned(finding: Finding) -> str:
    name = _name(finding)
    lost = finding.fact(UnitsLost)
    if lost is not None:
        some = "a unit" if lost.units == 1 else f"{lost.units} units"
        if lost.proved:
            was, them = ("was", "it") if lost.units == 1 else ("were", "them")
            return f"{some} of {name} {was} lost: the process that held {them} died"
        seem, them = ("seems", "it") if lost.units == 1 else ("seem", "them")
        return f"{some} of {name} {seem} lost: no living process holds {them}"
    if finding.severity == "error":
        return f"{name} is orphaned: the process that held it died"
    return f"{name} seems orphaned: it is locked, and no process that can be seen holds it"


def _stuck(finding: Finding) -> str:
    workers, held = finding.fact(WorkersBlocked), finding.fact(HeldBy)
    what = _waited_for(finding)
    one = workers is not None and workers.workers == 1
    now = ("has waited" if one else "have waited") if finding.since else "waits" if one else "wait"
    verb = "waited" if finding.over_s is not None else now
    if workers is not None and (not workers.proven or workers.workers == workers.of_workers):
        many = f"{workers.workers} of {counted(workers.of_workers, 'worker')}"
        stuck = "is stuck: it " if one else "are stuck: they "
        state = stuck if workers.proven and finding.over_s is None else ""
        return f"{many} {state}{verb}{what}{duration(finding.since, 'wait')}"
    who = [fact.thread for fact in finding.facts if isinstance(fact, BlockedOn)]
    if len(who) == 1:
        if finding.over_s is not None:
            return f"{thread_name(who[0])} was stuck: it waited{what}"
        if held is not None and _same(held.holds[0].thread, who[0]):
            return f"{thread_name(who[0])} waits{what}, which it holds itself"
        return f"{thread_name(who[0])} is stuck: it waits{what}, and nothing that lives can wake it"
    threads = counted(len(finding.threads), "thread")
    if finding.over_s is not None:
        return f"{threads} were stuck: they waited{what}"
    if len(finding.threads) == 1:
        return f"{threads} is stuck: it waits{what}, and nothing that lives can wake it"
    return f"{threads} are stuck: they wait{what}, and nothing that lives can wake them"


def _waited_for(finding: Finding) -> str:
    """Return ` for shop.jobs, shop.results`: all that the threads wait for, the most wanted first."""
    wanted = Counter(target_text(fact.target) for fact in finding.facts if isinstance(fact, BlockedOn))
    names = [name for name, _ in wanted.most_common()]
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f" for {', '.join(names[:_FEW])}{more}" if names else ""


def _same(one: ThreadRef, other: ThreadRef) -> bool:
    return (one.process, one.tid) == (other.process, other.tid)


def _deadlock(finding: Finding) -> str:
    ring = [fact for fact in finding.facts if isinstance(fact, RingLink)]
    over = finding.over_s is not None
    doubtful = any(link.took for link in ring) and not over
    if not ring:
        wait = "waited" if over else "wait"
        chain = "; ".join(
            f"{thread_name(fact.thread)} for {target_text(fact.target)}"
            for fact in finding.facts
            if isinstance(fact, BlockedOn)
        )
        return f"threads {wait} for each other: {chain}"
    if len(ring) == 1:
        who, name = thread_name(ring[0].thread), lock_name(ring[0].wants)
        if over:
            return f"{who} waited for {name}, which it held itself"
        if doubtful:
            return f"{who} waits for {name}, which it took itself: it is stuck unless another releases it"
        return f"{who} waits for {name}, which it holds itself"
    unless = "; they are stuck unless another releases one of these" if doubtful else ""
    wait = "waited" if over else "wait"
    return f"{len(ring)} threads {wait} for each other: {lock_names(link.wants for link in ring)}{unless}"


def _stopped(finding: Finding) -> str:
    who, first = pids([finding.threads[0].pid]), finding.fact(BlockedOn)
    if first is None and not finding.locks:
        return _stopped_alone(finding)
    what = target_text(first.target) if first else _name(finding)
    if finding.over_s is not None:
        return f"{who} was stopped while threads waited for {what}"
    return f"{who} is stopped: threads wait for {what} until it is continued"


def _stopped_alone(finding: Finding) -> str:
    """Return it for workers that no thread waits for."""
    many, who = len(finding.threads) > 1, pids(each.pid for each in finding.threads)
    if finding.over_s is not None:
        return f"{who} {'were' if many else 'was'} stopped"
    if finding.fact(MasterStopped):
        return f"{who}, the master, is stopped: nobody looks after the workers until it is continued"
    do, them = ("are stopped: they serve", "they are") if many else ("is stopped: it serves", "it is")
    return f"{who} {do} no request until {them} continued"


def _worker_died(finding: Finding) -> str:
    who = thread_name(finding.threads[0])
    waited = "waited" if finding.over_s is not None else "waits"
    if finding.fact(WorkersEndAtStart):
        ends = "ended as soon as it had started" if finding.over_s is not None else "ends as soon as it has started"
        return f"every worker of {pids([finding.threads[0].pid])} {ends}"
    died = "a worker died with the job" if finding.severity == "error" else "a worker may have died with the job"
    return f"{who} {waited} for the result of a job, and no worker of the pool is at work: {died}"


def _unshared(finding: Finding) -> str:
    name, fact = _name(finding), finding.fact(SeparateSemaphores)
    if fact is None or fact.thing is None:
        return f"{name} is a separate lock in each worker, so it does not protect across workers"
    effect = _EFFECTS.get(fact.thing, "it does not protect across workers")
    return f"{name}, {with_article(fact.thing)}: each worker has its own, so {effect}"


_NOT_PASSED_ON = "what one worker puts into it never reaches another"
_EFFECTS = {
    "Event": "what one worker sets no other sees",
    "Barrier": "it never waits for another worker",
    "Queue": _NOT_PASSED_ON,
    "JoinableQueue": _NOT_PASSED_ON,
    "SimpleQueue": _NOT_PASSED_ON,
}


def _private(finding: Finding) -> str:
    kind = class_name(finding.locks[0].kind)
    return f"{_name(finding)} is {kind}: each worker has its own copy, so it does not protect across workers"


def _inherited(finding: Finding) -> str:
    private = finding.fact(LockedSinceFork)
    held = "was held" if private is None else "seems to have been held"
    worker = "process" if private is None or not private.workers else "worker"
    return f"{_name(finding)} {held} while {counted(len(finding.pids), worker)} {_was(finding)} forked"


def _over_release(finding: Finding) -> str:
    if finding.fact(OverReleased) is None and finding.fact(AboveMaximum) is not None:
        return f"{_name(finding)} was released more often than acquired"
    return f"{_name(finding)} was released by a process that did not hold it"


def _timeout_risk(finding: Finding) -> str:
    who, name = pids(finding.pids[:1]), _name(finding)
    if finding.over_s is not None:
        return f"gunicorn was about to kill {who}, which held {name}"
    return f"gunicorn will soon kill {who}, which holds {name}"


def _long_hold(finding: Finding) -> str:
    has = "has " if finding.over_s is None else ""
    who = thread_name(finding.threads[0])
    return f"{who} {has}held {_name(finding)}{duration(finding.since)} without a break"


def _long_wait(finding: Finding) -> str:
    ring = [fact for fact in finding.facts if isinstance(fact, RingLink)]
    over, since = finding.over_s is not None, duration(finding.since)
    if ring:
        have = "" if over else "have "
        wanted = lock_names(link.wants for link in ring)
        return f"{len(ring)} threads {have}waited for each other{since}: {wanted}"
    waits = [fact for fact in finding.facts if isinstance(fact, BlockedOn)]
    if waits:
        have = "" if over else "have " if len(finding.threads) > 1 else "has "
        who = counted(len(finding.threads), "thread") if len(finding.threads) > 1 else thread_name(finding.threads[0])
        return f"{who} {have}waited for {target_text(waits[0].target)}{since}"
    if finding.fact(TasksWait):
        return f"{_tasks(finding)} {'' if over else 'have '}waited for {_name(finding)}{since}"
    ended = finding.fact(TakerDied) or finding.fact(TakerGone)
    died = ", and the process that had it died" if ended else ""
    return f"{thread_name(finding.threads[0])} {'' if over else 'has '}waited for {_name(finding)}{since}{died}"


def _tasks(finding: Finding) -> str:
    return f"asyncio tasks of {pids(finding.pids)}"


def _contention(finding: Finding) -> str:
    crowd = finding.fact(Crowd)
    average = crowd.waited_s / crowd.watched_s if crowd and crowd.watched_s else 0.0
    return f"{_name(finding)} had {average:.1f} waiters on average"


def _lock_order(finding: Finding) -> str:
    first, second = finding.locks[:2]
    return f"{lock_name(first)} and {lock_name(second)} are taken in both orders"


def _leaked_name(finding: Finding) -> str:
    unused = finding.fact(UnusedNames)
    names = unused.names if unused else ()
    return f"{counted_names(each.sort for each in names)} in /dev/shm that no process uses"


def _shm_full(finding: Finding) -> str:
    room = finding.fact(RoomLeft)
    left = f": {size(room.free)} of {size(room.size)} left" if room else ""
    return f"/dev/shm is nearly full{left}"


def _name(finding: Finding) -> str:
    return lock_name(finding.main_lock) if finding.main_lock else clean(finding.name)


def _was(finding: Finding) -> str:
    return "was" if len(finding.pids) == 1 else "were"


def _inherited_file(finding: Finding) -> str:
    ended = finding.fact(FileTakerEnded)
    heirs = pids(each.pid for each in ended.heirs) if ended is not None else "a child"
    return f"the lock of {_name(finding)} outlived the process that took it: {heirs} inherited the open file"


def _shared_file(finding: Finding) -> str:
    return f"the lock of {_name(finding)} does not exclude processes that share the open file"


def _fragile_file_lock(finding: Finding) -> str:
    return f"the POSIX lock of {_name(finding)} is lost as soon as its holder closes another descriptor of the file"


def _lost_file_lock(finding: Finding) -> str:
    return f"the POSIX lock of {_name(finding)} is lost: a process goes on as if it had it"


def _local_lock_file(finding: Finding) -> str:
    return f"the lock of {_name(finding)} excludes only processes of this container"


def _stale_lock_file(finding: Finding) -> str:
    names = finding.fact(LockFileNames)
    if names is not None and names.host is not None:
        return f"{_name(finding)} may be left over: it names an owner on another host"
    return f"{_name(finding)} is left over: the process that made it has ended, and others wait for it to go"


TITLES: Mapping[FindingCode, Callable[[Finding], str]] = {
    FindingCode.ORPHANED_LOCK: _orphaned,
    FindingCode.STUCK: _stuck,
    FindingCode.DEADLOCK: _deadlock,
    FindingCode.STOPPED: _stopped,
    FindingCode.WORKER_DIED: _worker_died,
    FindingCode.UNSHARED_LOCK: _unshared,
    FindingCode.PRIVATE_LOCK: _private,
    FindingCode.INHERITED_HOLD: _inherited,
    FindingCode.OVER_RELEASE: _over_release,
    FindingCode.TIMEOUT_RISK: _timeout_risk,
    FindingCode.LONG_HOLD: _long_hold,
    FindingCode.LONG_WAIT: _long_wait,
    FindingCode.CONTENTION: _contention,
    FindingCode.LOCK_ORDER: _lock_order,
    FindingCode.LEAKED_NAME: _leaked_name,
    FindingCode.SHM_FULL: _shm_full,
    FindingCode.INHERITED_FILE: _inherited_file,
    FindingCode.SHARED_FILE: _shared_file,
    FindingCode.STALE_LOCK_FILE: _stale_lock_file,
    FindingCode.LOST_FILE_LOCK: _lost_file_lock,
    FindingCode.FRAGILE_FILE_LOCK: _fragile_file_lock,
    FindingCode.LOCAL_LOCK_FILE: _local_lock_file,
}
