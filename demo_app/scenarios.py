"""The stories: how gunicorn is started, what there is to see, and what it teaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from demo_app.bank import State


def never(state: State) -> bool:
    return False


class Stage(Protocol):
    """What a story may do when it is told without a terminal. `customers` is how many there are, or will be."""

    customers: int

    def let_customers_in(self) -> None:
        """From now on there are more withdrawals than one worker can serve."""

    def ask(self, page: str) -> None:
        """Send one request, which may never be answered."""

    def dump(self, says: str, when: Callable[[State], bool], over: Callable[[State], bool] = never) -> State:
        """Wait for the moment, say what it is, show what semtrace sees, and return the bank's state at that moment.

        A moment that does not come again is left out where it is `over` before it could be shown.
        """

    def diagnose(self) -> None:
        """Show what semtrace says is wrong."""


@dataclass(frozen=True)
class Scenario:
    """`look` is what to watch in semtrace, `moral` what it meant, `shown` what must have happened before the end.

    Customers ask for `page` and have it hold the lock for a time between the two of `hold_s`; `asks` are requests that
    are sent once. There are at most so many `customers`. `traced` starts gunicorn with its locks traced, as
    `semtrace run --headless -- gunicorn …` does.
    """

    name: str
    title: str
    look: str
    moral: str
    tell: Callable[[Stage], None]
    preload: bool = True
    timeout_s: int = 30
    page: str = "/withdraw"
    hold_s: tuple[float, float] = (0.3, 0.7)
    pause_s: tuple[float, float] = (0.1, 0.8)
    asks: tuple[str, ...] = ()
    customers: int = 5
    traced: bool = False
    shown: Callable[[State], bool] = lambda state: state.payments > 0


def killed(state: State) -> bool:
    """Has the report's worker been?"""
    return state.reporter is not None and state.reporter not in state.inside


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
    stage.diagnose()


def tell_no_preload(stage: Stage) -> None:
    stage.dump("No customer has come yet. Every worker has made a lock for itself; the master has none:", quiet)
    stage.let_customers_in()
    stage.dump("Several workers are inside at once. Each holds the lock, but a lock that no other worker knows:", crowd)
    stage.diagnose()


def tell_leak(stage: Stage) -> None:
    stage.let_customers_in()
    stage.dump("A day like any other: one worker has the lock, others wait:", queue)
    stage.ask("/report")
    stage.dump(
        "One worker makes the yearly report, with the lock in its hand:", lambda now: now.reporter in now.inside, killed
    )
    stage.dump(
        "gunicorn lost patience and killed that worker. The lock is still taken, by nobody, and all wait for it:",
        lambda now: killed(now) and len(now.waiting) >= stage.customers,
    )
    stage.diagnose()


def tell_deadlock(stage: Stage) -> None:
    for page in BOTH_WAYS:
        stage.ask(page)
    stage.dump("Two transfers are under way, one each way. Each has one lock and waits for the other's:", embraced)
    stage.diagnose()


def tell_order(stage: Stage) -> None:
    stage.let_customers_in()
    stage.dump(
        "There is one customer only, so nobody ever waits. All is well, it seems:",
        lambda now: now.payments > 20,
    )
    stage.diagnose()


def tell_reentry(stage: Stage) -> None:
    stage.ask("/correct")
    stage.dump("A worker corrects the balance. It holds the lock, and waits for it:", waits_inside)
    stage.diagnose()


def tell_inherited(stage: Stage) -> None:
    stage.let_customers_in()
    stage.dump(
        "Every worker counts the lock as its own since it was forked. The first to take it never gives it back:",
        lambda now: len(now.waiting) >= stage.customers - 1,
    )
    stage.diagnose()


def tell_overrelease(stage: Stage) -> None:
    stage.let_customers_in()
    stage.dump(
        "Several workers are inside at once, though they share one lock. Some gave it back for others:",
        lambda now: crowd(now) and now.payments > 2 * stage.customers,
    )
    stage.diagnose()


def tell_convoy(stage: Stage) -> None:
    stage.let_customers_in()
    stage.dump(
        "All is as it should be, but the lock is never free: all workers but one wait, all the time:",
        lambda now: len(now.waiting) >= stage.customers - 1,
    )
    stage.diagnose()


def embraced(state: State) -> bool:
    return len(state.inside & state.waiting) > 1


def waits_inside(state: State) -> bool:
    return bool(state.inside & state.waiting)


BOTH_WAYS = ("/transfer?way=out", "/transfer?way=in")

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
                "time than --timeout, and not over calls that may block. semtrace release sets an orphaned lock free."
            ),
            tell=tell_leak,
            timeout_s=4,
            asks=("/report",),
        ),
        Scenario(
            name="deadlock",
            title="two locks, taken in both orders: two workers wait for each other",
            look=(
                "After some seconds two transfers begin, one each way: each holds one lock and waits for the other. "
                "Then everyone waits. `semtrace doctor` shows the chain."
            ),
            moral="Where more than one lock is needed, take them in the same order everywhere.",
            tell=tell_deadlock,
            asks=BOTH_WAYS,
            shown=embraced,
        ),
        Scenario(
            name="order",
            title="two locks, taken in both orders, traced: nobody waits yet",
            look=(
                "One customer is served, now with one lock first and now with the other, and nothing is wrong to see. "
                "The locks are traced, and `f` shows what the events tell: two customers would wait for each other."
            ),
            moral="A deadlock that has not happened yet can be found while all is well: by the order of the acquires.",
            tell=tell_order,
            page="/settle",
            hold_s=(0.01, 0.03),
            pause_s=(0.02, 0.05),
            customers=1,
            traced=True,
        ),
        Scenario(
            name="reentry",
            title="a worker takes a Lock that it has: it waits for itself",
            look="After some seconds one worker both holds the lock and waits for it, and all others wait behind it.",
            moral="A Lock asks not who takes it. What may be called with the lock held needs an RLock, or not take it.",
            tell=tell_reentry,
            asks=("/correct",),
            shown=waits_inside,
        ),
        Scenario(
            name="inherited",
            title="an RLock that was held while the workers were forked: it is never given back",
            look="The first worker that takes the lock keeps it for ever, though it left; all others wait.",
            moral=(
                "A fork copies the count of a lock that the master holds at that moment, and a worker whose count is "
                "too high never gives the lock back. Let nothing in the master hold it while workers are forked."
            ),
            tell=tell_inherited,
        ),
        Scenario(
            name="overrelease",
            title="acquire with a timeout, release in any case: the lock of another is released",
            look="Several workers are inside at once. Who does not get the lock in time gives back that of another.",
            moral="acquire(timeout=…) says whether it got the lock. Release it only then.",
            tell=tell_overrelease,
            page="/hurry",
            shown=money_lost,
        ),
        Scenario(
            name="convoy",
            title="a lock that works and is never free: the workers walk in single file",
            look="One worker holds the lock, all others wait for it, always. More workers would serve nobody more.",
            moral="What is done under a lock is done by one worker at a time. Do less under it, or have several.",
            tell=tell_convoy,
            pause_s=(0.0, 0.0),
        ),
    )
}
