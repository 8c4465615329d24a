"""The four stories: how gunicorn is started, what there is to see, and what it teaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from demo_app.bank import State


class Stage(Protocol):
    """What a story may do when it is told without a terminal. `customers` is how many there are, or will be."""

    customers: int

    def let_customers_in(self) -> None:
        """From now on there are more withdrawals than one worker can serve."""

    def ask_for_report(self) -> None:
        """Send the one request that holds the lock for too long."""

    def dump(self, says: str, when: Callable[[State], bool]) -> State:
        """Wait for the moment, say what it is, show what semtrace sees, and return the bank's state at that moment."""


@dataclass(frozen=True)
class Scenario:
    """`look` is what to watch in semtrace, `moral` what it meant, `shown` what must have happened before the end."""

    name: str
    title: str
    look: str
    moral: str
    tell: Callable[[Stage], None]
    preload: bool = True
    timeout_s: int = 30
    report: bool = False
    shown: Callable[[State], bool] = lambda state: state.payments > 0


def quiet(state: State) -> bool:
    return not state.inside and not state.waiting


def queue(state: State) -> bool:
    return len(state.inside) == 1 and len(state.waiting) > 0


def crowd(state: State) -> bool:
    return len(state.inside) > 1


def money_lost(state: State) -> bool:
    return state.lost > 0


def tell_shared(stage: Stage) -> None:
    stage.dump("No customer has come yet. All processes map one and the same lock, and it is free:", quiet)
    stage.let_customers_in()
    first = stage.dump("One worker has the lock, and the others that have a customer wait for it:", queue)
    stage.dump("A little later it is another worker's turn:", lambda now: queue(now) and now.inside != first.inside)


def tell_threading(stage: Stage) -> None:
    stage.dump("No customer has come yet. There is no lock that the processes share:", quiet)
    stage.let_customers_in()
    stage.dump(
        "Several workers are inside at once, each with its own copy of the lock. Nobody waits, nothing is shared:",
        crowd,
    )


def tell_no_preload(stage: Stage) -> None:
    stage.dump("No customer has come yet. Every worker has made a lock for itself; the master has none:", quiet)
    stage.let_customers_in()
    stage.dump("Several workers are inside at once. Each holds the lock, but a lock that no other worker knows:", crowd)


def tell_leak(stage: Stage) -> None:
    stage.let_customers_in()
    stage.dump("A day like any other: one worker has the lock, others wait:", queue)
    stage.ask_for_report()
    stage.dump("One worker makes the yearly report, with the lock in its hand:", lambda now: now.reporter in now.inside)
    stage.dump(
        "gunicorn lost patience and killed that worker. The lock is still taken, by nobody, and all wait for it:",
        lambda now: now.reporter is not None and now.reporter not in now.inside and len(now.waiting) >= stage.customers,
    )


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="shared",
            title="multiprocessing.Lock, gunicorn --preload: the lock works",
            look="One lock, mapped by all. One worker holds it, others wait; the holder changes with every withdrawal.",
            moral="The lock was made before the fork, so all workers share one semaphore, and it keeps them apart.",
            tell=tell_shared,
        ),
        Scenario(
            name="threading",
            title="threading.Lock, gunicorn --preload: the lock excludes nobody",
            look="No lock that the processes share, and nobody waits: each worker has a copy of a threading.Lock.",
            moral=(
                "A threading.Lock lies in the memory of one process, and the fork gave each worker a copy. "
                "Use multiprocessing.Lock."
            ),
            tell=tell_threading,
            shown=money_lost,
        ),
        Scenario(
            name="no-preload",
            title="multiprocessing.Lock without --preload: each worker has its own",
            look="One name, but a lock of its own in every worker. Several hold it at once. Nobody waits.",
            moral="Each worker imported the application and made a lock for itself. Start gunicorn with --preload.",
            tell=tell_no_preload,
            preload=False,
            shown=money_lost,
        ),
        Scenario(
            name="leak",
            title="gunicorn's own timeout kills the holder: the lock is orphaned and all hangs",
            look=(
                "After some seconds one worker makes a report and keeps the lock. gunicorn kills it for that; from "
                "then on the lock is held by nobody, and every worker waits until gunicorn kills it in its turn."
            ),
            moral=(
                "A semaphore does not know who took it, so nobody gives it back for the dead. Hold a lock for less "
                "time than --timeout, and not over calls that may block. Once it is orphaned, restart gunicorn."
            ),
            tell=tell_leak,
            timeout_s=4,
            report=True,
        ),
    )
}
