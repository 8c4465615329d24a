"""Helpers of the tests. The package itself has what starts and ends real processes: `from support import wait_until`.

Not a plugin: pytest's `pythonpath` has `tests`. The chaos programs import it as `tests.support`, so it imports itself
by relative names.
"""

from __future__ import annotations

from .processes import (
    PATIENCE_S,
    PROGRAMS,
    Running,
    alive,
    child_pids,
    descendants,
    kill_tree,
    marked_pids,
    page_numbers_are_shown,
    start,
    start_gunicorn,
    start_ticks,
    until_released,
    wait_until,
)

__all__ = [
    "PATIENCE_S",
    "PROGRAMS",
    "Running",
    "alive",
    "child_pids",
    "descendants",
    "kill_tree",
    "marked_pids",
    "page_numbers_are_shown",
    "start",
    "start_gunicorn",
    "start_ticks",
    "until_released",
    "wait_until",
]
