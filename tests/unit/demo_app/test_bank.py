"""The demo's witness: from the journal's lines to who was inside, and how much money is lost."""

from __future__ import annotations

import os
from pathlib import Path

from demo_app.bank import AMOUNT, START, Bank, fold

ONE_AFTER_THE_OTHER = ["1 wants", "1 enters", "2 wants", "1 paid", "1 leaves", "2 enters", "2 paid", "2 leaves"]
BOTH_AT_ONCE = ["1 wants", "1 enters", "2 wants", "2 enters", "1 paid", "2 paid", "1 leaves", "2 leaves"]


def test_a_lock_that_works_lets_one_in_and_loses_nothing() -> None:
    state = fold(ONE_AFTER_THE_OTHER, START - 2 * AMOUNT)
    assert (state.most_inside, state.payments, state.lost) == (1, 2, 0)


def test_two_inside_at_once_and_unbooked_payments_are_counted() -> None:
    state = fold(BOTH_AT_ONCE, START - AMOUNT)
    assert (state.most_inside, state.payments, state.lost) == (2, 2, AMOUNT)


def test_who_is_inside_who_waits_and_who_reports() -> None:
    state = fold(["1 wants", "1 enters", "1 reports", "2 wants"], START)
    assert (state.inside, state.waiting, state.reporter) == ({1}, {2}, 1)


def test_killed_worker_is_not_inside_but_was_the_reporter(tmp_path: Path) -> None:
    bank = Bank.in_folder(tmp_path)
    child = os.fork()
    if child == 0:
        for deed in ("wants", "enters", "reports"):
            bank.note(deed)
        os._exit(0)
    os.waitpid(child, 0)
    state = bank.look()
    assert (state.inside, state.reporter, state.most_inside) == (frozenset(), child, 1)


def test_new_bank_has_the_first_balance_and_keeps_changes(tmp_path: Path) -> None:
    assert Bank.in_folder(tmp_path).balance() == START
    Bank.in_folder(tmp_path).set_balance(7)
    assert Bank.in_folder(tmp_path).balance() == 7
