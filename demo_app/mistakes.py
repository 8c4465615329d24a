"""Ways to use a lock wrongly, one for each scenario that needs a page of its own. `app` imports it at its end."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable

from demo_app.app import LONGEST_THOUGHT_S, alone, bank, lock
from demo_app.bank import AMOUNT

COUNTING_S = 2.0
PATIENCE_S = 0.05

savings_lock = multiprocessing.Lock()


def transfer(query: dict[str, list[str]]) -> str:
    """Both accounts must stand still; but which of them first? Two transfers, one each way, wait for each other."""
    first, second = (lock, savings_lock) if query["way"] == ["out"] else (savings_lock, lock)
    bank.note("wants")
    with first:
        bank.note("enters")
        time.sleep(1.0)
        bank.note("wants")
        with second:
            bank.note("paid")
    bank.note("leaves")
    return "Transferred.\n"


def settle(query: dict[str, list[str]]) -> str:
    """The same mistake in a hurry, once this way and once that. With a single customer all goes well, every time."""
    first, second = (lock, savings_lock) if bank.look().payments % 2 else (savings_lock, lock)
    bank.note("wants")
    with first:
        bank.note("enters")
        with second:
            time.sleep(min(float(query["seconds"][0]), LONGEST_THOUGHT_S))
            bank.set_balance(bank.balance() - AMOUNT)
            bank.note("paid")
    bank.note("leaves")
    return f"Worker {os.getpid()} paid {AMOUNT} from both accounts.\n"


def correct(query: dict[str, list[str]]) -> str:
    """A correction is two withdrawals, and nobody must see the balance in between. But each takes the lock itself."""
    with alone():
        for _ in range(2):
            with alone():
                bank.set_balance(bank.balance() - AMOUNT)
    return "Corrected.\n"


def hurry(query: dict[str, list[str]]) -> str:
    """Whoever is in a hurry does not wait for long, which is well; but does not look whether it got the lock, either,
    and in the end releases that of another.
    """
    bank.note("wants")
    lock.acquire(timeout=PATIENCE_S)
    try:
        bank.note("enters")
        balance = bank.balance()
        time.sleep(min(float(query["seconds"][0]), LONGEST_THOUGHT_S))
        bank.set_balance(balance - AMOUNT)
        bank.note("paid")
    finally:
        bank.note("leaves")
        lock.release()
    return f"Worker {os.getpid()} paid {AMOUNT} in a hurry.\n"


def keep_house() -> None:
    """At opening time a thread of the master counts the money, with the lock; meanwhile the workers are forked.

    A fork copies the count of the lock, so each worker believes that it has the lock once already. When it takes an
    RLock and gives it back, its count falls from 2 to 1, and the lock stays locked.
    """
    taken = threading.Event()

    def count_the_money() -> None:
        with lock:
            taken.set()
            time.sleep(COUNTING_S)

    threading.Thread(target=count_the_money, name="housekeeper", daemon=True).start()
    taken.wait()


PAGES: dict[str, Callable[[dict[str, list[str]]], str]] = {
    "/transfer": transfer,
    "/settle": settle,
    "/correct": correct,
    "/hurry": hurry,
}
