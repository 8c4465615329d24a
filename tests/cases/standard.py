"""The cases that need the standard library only: what is sick, stopped or slow, and what semtrace must say."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support import wait_until

from cases.examining import Act, Case
from cases.expectations import (
    SLOW,
    STUCK,
    Expected,
    Found,
    Pids,
    Waits,
    child,
    children,
    everybody,
    grandchildren,
    root,
    said,
)
from cases.sickness import Sick, catches, sleeps_in

DEADLY = STUCK | {"worker-died"}
INHERITED = STUCK | {"inherited-hold"}


def stuck(pids: Pids, lock: str = "", place: str = "", codes: frozenset[str] = STUCK) -> Found:
    """Expect an error that says these processes can never go on."""
    return Found(codes, "error", pids=pids, lock=lock, place=place)


def waits(pids: Pids, kind: str) -> Waits:
    return Waits(pids, kind, stuck=True)


def sick(*found: Found, waits: tuple[Waits, ...] = (), threads: int = 1, **changes: object) -> Expected:
    return Expected(found, waits, stuck={"threads": threads}, **changes)  # type: ignore[arg-type]


def ready(times: int = 1) -> Act:
    return lambda sick: sick.wait_output("ready", times)


def handled(number: int, find: Callable[[Sick], int]) -> Act:
    """Send the signal once, to the process that is ready for it."""

    def act(sick: Sick) -> None:
        sick.wait_output("ready")
        pid = find(sick)
        wait_until(lambda: catches(pid, number), what="the handler")
        sick.wait_still(0.3)
        sick.signal(number, pid)

    return act


def storm(sick: Sick) -> None:
    """Send SIGHUP until the program hangs."""
    wait_until(lambda: catches(sick.pid, signal.SIGHUP), what="the handler")
    sick.signal_until(signal.SIGHUP, 0.001, lambda: sick.wait_still(0.3, 0.45))


def files(*paths: str) -> tuple[str, ...]:
    return tuple(f"{{folder}}/{path}" for path in paths)


NOT_INHERITED = frozenset({"inherited-hold", "orphaned-lock"})

CASES = (
    # A job was lost with its worker, also where a forkserver made that; a result was lost although nobody died.
    *(
        Case(
            "pool_spawn_killed",
            Expected((Found(frozenset({"worker-died"}), severity, pids=root, place="waits"),)),
            label=way,
            arguments=(way,),
        )
        for way, severity in (("spawn", "error"), ("forkserver", "warning/error"))
    ),
    Case(
        "failing_initializer",
        Expected((Found(frozenset({"worker-died"}), "error", pids=root, place="waits"),)),
        rests=False,
    ),
    # Results that nobody reads keep a thread of the Pool awake.
    Case("apply_in_callback", sick(stuck(root, place="waits in the callback"), threads=2), rests=False),
    Case("unpicklable_exception", sick(stuck(root, place="waits"), never=NOT_INHERITED | {"worker-died"}), rests=False),
    Case(
        "pool_at_import",
        Expected((Found(STUCK, "error", pids=root, lock="pool_at_import"),), never=NOT_INHERITED | {"worker-died"}),
    ),
    # One thread waits for a lock that it has itself.
    Case("twice_lock", sick(stuck(root, "cache_lock", "waits"), waits=(waits(root, "private-lock"),))),
    Case("twice_semaphore", sick(stuck(child(0), "changed", "waits"), waits=(waits(child(0), "private-lock"),))),
    Case(
        "twice_shared",
        sick(stuck(child(0), "ledger"), waits=(waits(children, "shared-lock"), waits(root, "process-end")), threads=3),
    ),
    # Locks inside libraries, which have no name of their own.
    Case("inside_queue", sick(stuck(root, "mutex", ""), waits=(waits(root, "private-lock"),))),
    Case(
        "inside_file",
        sick(
            stuck(child(0), "", "waits", INHERITED),
            waits=(waits(child(0), "private-lock"),),
            never=frozenset({"orphaned-lock"}),
        ),
    ),
    # A slow holder that is behind a context manager or an ExitStack: slow, and nothing worse.
    Case(
        "slow_context",
        Expected(
            (Found(SLOW, "warning", pids=root, lock="__main__.lock", place="holds"),),
            (Waits(root, "private-lock", stuck=False),),
            never=NOT_INHERITED | STUCK,
        ),
        long_s=1.0,
    ),
    Case(
        "slow_exitstack",
        Expected(
            (Found(SLOW, "warning", pids=root, lock="guard", place="holds"),),
            (Waits(root, "private-lock", stuck=False),),
            never=NOT_INHERITED | STUCK,
        ),
        long_s=1.0,
    ),
    # A private lock that several processes hold at once.
    Case(
        "private_forks",
        Expected((Found(frozenset({"private-lock"}), "error", pids=children, lock="report_lock", place="holds"),)),
        lambda sick: sick.wait_children(3),
        rests=False,
        watch_s=2.5,
    ),
    Case(
        "private_stack",
        Expected((Found(frozenset({"private-lock"}), "error", pids=children, lock="stock"),)),
        lambda sick: sick.wait_children(3),
        rests=False,
        watch_s=2.5,
    ),
    Case(
        "private_asyncio",
        Expected((Found(frozenset({"private-lock"}), "warning", of=children, lock="__main__.lock"),)),
        lambda sick: sick.wait_children(3),
        rests=False,
        watch_s=2.5,
    ),
    # Tasks of an event loop that wait for an asyncio lock: no thread sleeps in it.
    *(
        Case(
            program,
            Expected(
                tuple(Found(frozenset({"long-wait"}), "warning", pids=root, lock=lock) for lock in locks),
                never=NOT_INHERITED | STUCK,
            ),
            ready(),
            rests=False,
            watch_s=2.5,
            long_s=1.0,
        )
        for program, locks in (
            ("tasks_ring", ("left_lock", "right_lock")),
            ("tasks_forgotten", ("stock_lock",)),
        )
    ),
    # Locked by another thread at the fork: here, and only here, "inherited" is right.
    Case(
        "fork_held",
        sick(
            stuck(children, "__main__.lock", "waits", INHERITED),
            waits=(waits(children, "private-lock"),),
            threads=3,
            never=frozenset({"orphaned-lock"}),
        ),
        lambda sick: sick.wait_children(3),
        rests=False,
    ),
    Case(
        "pool_fork_held",
        sick(
            stuck(children, "", "waits", INHERITED),
            waits=(waits(children, "private-lock"),),
            threads=2,
            never=frozenset({"orphaned-lock"}),
        ),
        lambda sick: sick.wait_children(2),
        rests=False,
    ),
    # What a signal's handler interrupted.
    Case("handler_lock", sick(stuck(root, "state_lock", "waits"), waits=(waits(root, "private-lock"),))),
    Case(
        "handler_event",
        sick(stuck(child(0)), waits=(waits(child(0), "signal"), waits(root, "process-end")), threads=2),
        handled(signal.SIGTERM, lambda sick: sick.wait_children(1)[0]),
    ),
    Case(
        "handler_notify",
        sick(stuck(child(0)), waits=(waits(child(0), "signal"), waits(root, "process-end")), threads=2),
        handled(signal.SIGUSR2, lambda sick: sick.wait_children(1)[0]),
    ),
    Case("handler_is_set", sick(stuck(root)), storm),
    Case("handler_put", sick(stuck(root), waits=(waits(root, "private-lock/shared-lock"),)), storm),
    # The end of a thread.
    Case(
        "thread_joins",
        sick(stuck(child(0)), waits=(waits(child(0), "thread-end"), waits(root, "process-end")), threads=3),
        lambda sick: sick.wait_asleep(2, 202),
    ),
    Case(
        "thread_stays",
        Expected(
            (Found(SLOW | {"stuck"}, "warning", pids=children),),
            (Waits(children, "thread-end", stuck=False), Waits(root, "process-end", stuck=False)),
            never=NOT_INHERITED | {"deadlock"},
        ),
        lambda sick: sick.wait_children(2),
        long_s=1.0,
    ),
    # The units of a Semaphore.
    Case(
        "units_lost", sick(stuck(children, "slots", "waits"), waits=(waits(children, "signal/shared-lock"),), threads=3)
    ),
    Case(
        "units_kept",
        sick(stuck(children, "places", "waits"), waits=(waits(children, "signal/shared-lock"),), threads=4),
    ),
    # Who would wake them has died, or waits as well.
    Case("notify_dead", sick(stuck(root, "", "waits"), waits=(waits(root, "signal"),), threads=3)),
    Case("set_dead", sick(stuck(root), waits=(waits(root, "signal"),), threads=3)),
    Case("barrier_forks", sick(stuck(everybody, "", "waits"), waits=(waits(everybody, "signal"),), threads=3)),
    Case("barrier_threads", sick(stuck(root), waits=(waits(root, "thread-end"),), threads=3)),
    Case("event_nobody", sick(stuck(everybody, "", "waits"), waits=(waits(everybody, "signal"),), threads=3)),
    Case(
        "semaphore_nobody",
        sick(stuck(children, "units"), waits=(waits(children, "signal"), waits(root, "process-end")), threads=3),
    ),
    Case(
        "tasks_lost",
        sick(Found(DEADLY, "error/warning", pids=root), waits=(Waits(root, "signal"), Waits(child(0), "pipe-read"))),
    ),
    Case("tasks_lost_threads", sick(Found(DEADLY, "error/warning", pids=root))),
    # Pipes.
    Case(
        "queue_undrained",
        sick(
            stuck(everybody),
            waits=(waits(root, "process-end"), waits(child(0), "pipe-write"), waits(child(0), "thread-end")),
            threads=3,
        ),
        lambda sick: sick.wait_children(1),
    ),
    Case(
        "pipe_undrained",
        sick(stuck(everybody), waits=(waits(root, "process-end"), waits(child(0), "pipe-write")), threads=2),
        lambda sick: sick.wait_asleep(1, 1),
    ),
    Case(
        "pipe_shell",
        sick(stuck(everybody), waits=(waits(root, "process-end"), waits(grandchildren, "pipe-write/process-end"))),
        lambda sick: sick.wait_asleep(1, 1),
    ),
    Case(
        "pipe_stdin",
        sick(stuck(everybody), waits=(waits(root, "process-end"), waits(child(0), "pipe-read")), threads=2),
        lambda sick: sick.wait_asleep(1, 0),
    ),
    # A holder joins those who wait for its lock.
    Case(
        "join_holding",
        sick(stuck(everybody, "store"), waits=(waits(children, "shared-lock"), waits(root, "process-end")), threads=3),
    ),
    Case(
        "join_spawned",
        sick(stuck(root, "disk_lock"), waits=(waits(root, "process-end"),), threads=2),
        lambda sick: sick.wait_asleep(1, 202),
    ),
    Case(
        "executor_holding",
        sick(
            stuck(everybody, "ledger", "waits"),
            waits=(waits(children, "shared-lock"), waits(root, "signal")),
            threads=3,
        ),
        lambda sick: sick.wait_children(2),
    ),
    Case(
        "rlock_ended",
        sick(
            stuck(root, "state_lock", "waits", frozenset({"stuck"})),
            waits=(waits(root, "private-lock"), waits(root, "thread-end")),
            threads=2,
            never=NOT_INHERITED | {"deadlock"},
        ),
        lambda sick: sick.wait_asleep(1, 202),
    ),
    Case(
        "pool_of_parent",
        sick(
            stuck(child(2), "", "waits", frozenset({"stuck"})),
            stuck(child(3), "", "waits", frozenset({"stuck"})),
            waits=(waits(child(2), "signal"), waits(child(3), "signal")),
            threads=2,
            never=NOT_INHERITED | {"worker-died"},
        ),
        lambda sick: sick.wait_children(4),
    ),
    Case("pipe_other", sick(stuck(everybody), waits=(waits(root, "pipe-read"),), threads=2)),
    Case("pipe_both", sick(stuck(everybody), waits=(waits(root, "pipe-write"),), threads=2)),
    Case(
        "pipe_each_reads",
        Expected((stuck(everybody),), (waits(everybody, "pipe-read"),), stuck={"threads": 2, "workers": 1}),
        lambda sick: sick.wait_children(1),
    ),
    # Stopped.
    Case(
        "holder_stopped",
        Expected(
            (Found(frozenset({"stopped"}), "warning", pids=child(0), lock="own"),),
            (Waits(child(1), "shared-lock", stuck=False),),
            never=NOT_INHERITED | STUCK,
        ),
        lambda sick: sick.wait_children(2),
    ),
    Case(
        "reader_stopped",
        Expected((Found(frozenset({"stopped"}), "warning", of=children),), never=NOT_INHERITED | STUCK),
        lambda sick: sick.wait_children(3),
    ),
    # A worker died at work.
    Case(
        "task_killed",
        Expected((Found(DEADLY, "error/warning", pids=root, place="waits"),)),
        lambda sick: sick.wait_children(2),
    ),
    Case(
        "task_exited",
        Expected((Found(DEADLY, "error/warning", pids=root),)),
        lambda sick: sick.wait_children(2),
        rests=False,
    ),
    # Orphaned.
    Case(
        "reader_killed",
        Expected(
            (Found(frozenset({"orphaned-lock"}), "error", lock="_rlock", nowhere="forks"),),
            never=frozenset({"inherited-hold"}),
        ),
        ready(),
        watch_s=4.0,
    ),
    Case(
        "big_parent",
        Expected(
            (Found(frozenset({"orphaned-lock"}), "error", lock="__main__.lock"),), never=frozenset({"inherited-hold"})
        ),
        lambda sick: sick.wait_children(6),
        watch_s=4.0,
        slow=True,
    ),
    # File locks: the kernel shows holder and waiters.
    Case(
        "file_flock",
        Expected((), (Waits(lambda sick: file_waiters(sick), "file-lock", stuck=False),), never=NOT_INHERITED | STUCK),
        ready(),
        arguments=files("lock"),
    ),
    Case(
        "file_posix",
        Expected((), (Waits(lambda sick: file_waiters(sick), "file-lock", stuck=False),), never=NOT_INHERITED | STUCK),
        ready(),
        arguments=files("lock"),
    ),
    # A Manager's lock: its holder takes long, or is dead.
    Case(
        "healthy_manager",
        Expected(
            (Found(frozenset({"long-wait"}), "warning", pids=child(2), lock="__main__.guard", place="waits"),),
            never=NOT_INHERITED | STUCK,
        ),
        ready(),
        "long",
        arguments=("RLock",),
        long_s=1.0,
    ),
    Case(
        "manager_dead",
        Expected(
            (Found(DEADLY | {"orphaned-lock"}, "error/warning", of=everybody),),
            (Waits(said("ready"), "manager-lock"),),
            never=frozenset({"inherited-hold"}),
        ),
        ready(),
    ),
    Case(
        "manager_rlock_dead",
        sick(
            stuck(said("ready"), "__main__.lock", "waits"),
            waits=(waits(said("ready"), "manager-lock"), waits(root, "process-end")),
            threads=3,
        ),
        ready(),
    ),
    Case(
        "manager_result",
        sick(stuck(root, "", "waits"), waits=(waits(root, "pipe-read"),), threads=2),
        ready(),
    ),
    Case(
        "manager_ring",
        sick(
            stuck(said("ready"), "", "waits", frozenset({"deadlock"})),
            waits=(waits(said("ready"), "manager-lock"),),
            threads=3,
        ),
        ready(),
    ),
)


def file_waiters(sick: Sick) -> list[int]:
    """Return the children that sleep in flock or fcntl."""
    return [pid for pid in sick.children() if sleeps_in(pid, 72, 73, 32, 25)]
