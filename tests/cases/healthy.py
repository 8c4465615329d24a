"""The cases in which nothing is wrong: semtrace must say nothing."""

from __future__ import annotations

from dataclasses import replace

from support import wait_until

from cases.examining import Case
from cases.expectations import STUCK, Expected, Waits, said
from cases.sickness import Sick, hold_by_debugger, sleeps_in
from cases.standard import NOT_INHERITED, ready


def second_ready(sick: Sick) -> list[int]:
    return said("ready")(sick)[1:]


QUIET = Expected(quiet=True, stuck={"threads": 0}, never=NOT_INHERITED | STUCK)

MANAGED = replace(QUIET, waits=(Waits(second_ready, "manager-lock", stuck=False),))

CASES = (
    Case("healthy_throttle", QUIET, ready(), long_s=1.0),
    Case("healthy_handover", QUIET, ready(), long_s=60.0),
    Case("healthy_gate", QUIET, ready(), long_s=60.0),
    Case(
        "healthy_gate",
        Expected(exit=0, stuck={"threads": 0}),  # a warning, for nobody passes it
        ready(),
        "for long",
        long_s=1.0,
    ),
    Case("healthy_signal", QUIET, ready(), long_s=1.0),
    Case("healthy_pause", QUIET, ready(), long_s=1.0),
    Case("healthy_signal_child", QUIET, ready(), long_s=60.0),
    Case("healthy_self_pipe", QUIET, ready(), long_s=60.0),
    Case("healthy_wakeup_fd", QUIET, ready(), long_s=60.0),
    Case("healthy_coprocess", QUIET, ready(), long_s=60.0),
    Case("healthy_flock_kept", QUIET, ready(), arguments=("{folder}/lock",), long_s=60.0),
    Case("healthy_tasks", QUIET, ready(), rests=False, watch_s=2.0, long_s=1.0),
    Case("healthy_alarm", QUIET, ready(), "private", arguments=("private",), long_s=60.0),
    Case(
        "healthy_alarm",
        Expected(exit=0, stuck={"threads": 0}),  # a warning, that the alarm may end it
        ready(),
        "shared",
        arguments=("shared",),
        long_s=60.0,
    ),
    Case("healthy_pool", QUIET, ready(), "fork", arguments=("fork",), long_s=1.0),
    Case("healthy_pool", QUIET, ready(), "spawn", arguments=("spawn",), long_s=1.0),
    Case(
        "healthy_pool",
        Expected(exit=0, stuck={"threads": 0}, never=NOT_INHERITED | STUCK),
        lambda sick: stop_reader(sick),
        "debugger",
        arguments=("fork",),
        long_s=1.0,
    ),
    *(
        Case("healthy_two_pools", QUIET, ready(), name, arguments=(name,), rests=False, long_s=60.0)
        for name in ("1", "3")
    ),
    *(
        Case("healthy_imap_source", QUIET, ready(), name, arguments=(name,), rests=False, long_s=60.0)
        for name in ("ticks", "customers")
    ),
    Case("healthy_callback_slow", QUIET, ready(), rests=False, long_s=60.0),
    Case("healthy_executor", QUIET, ready(), long_s=1.0),
    Case("healthy_full", QUIET, ready(), long_s=60.0),
    Case("healthy_ended_producer", QUIET, ready(), arguments=("multiprocessing",)),
    *(
        Case("healthy_manager", MANAGED, ready(), name, arguments=(name,), long_s=60.0)
        for name in ("Lock", "RLock", "Semaphore", "Condition")
    ),
    Case("healthy_manager", QUIET, ready(), "queue", arguments=("queue",), long_s=1.0),
    Case("healthy_manager", QUIET, ready(), "killed", arguments=("killed",), long_s=1.0),
    *(
        Case("healthy_child", QUIET, ready(), name, arguments=(name,), rests=False, long_s=60.0)
        for name in (
            "computes",
            "drained",
            "communicates",
            "timed",
            "shared",
            "signalled",
            "stopped_later",
            "any_child",
            "helped",
        )
    ),
)


def stop_reader(sick: Sick) -> None:
    """Hold the worker that reads from the pipe, with its lock, as a debugger does."""
    sick.wait_output("ready")
    readers = wait_until(lambda: [pid for pid in sick.children() if sleeps_in(pid, 0, 63)], what="a reader")
    hold_by_debugger(sick, readers[0])


# joblib would leave a folder in /dev/shm when it is killed.
_ENV = {"JOBLIB_TEMP_FOLDER": "{folder}"}

LIBRARIES = (
    *(
        Case("healthy_library", QUIET, ready(), name, arguments=(name,), needs=(name,), env=_ENV, long_s=1.0)
        for name in ("billiard", "multiprocess", "loky", "joblib", "pebble")
    ),
    Case(
        "healthy_ended_producer", QUIET, ready(), "multiprocess", arguments=("multiprocess",), needs=("multiprocess",)
    ),
)
