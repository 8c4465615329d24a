"""A scenario of the demo under a real gunicorn, with its customers, for what makes pages and pictures of it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from demo_app.load import Customers  # noqa: E402
from demo_app.scenarios import Scenario  # noqa: E402
from demo_app.server import serve  # noqa: E402

ASK_S = 3.0


@contextmanager
def staged(scenario: Scenario, workers: int) -> Iterator[int]:
    """Run it and yield the PID of the master; then all is stopped."""
    with (
        tempfile.TemporaryDirectory(prefix="semtrace-docs-", ignore_cleanup_errors=True) as folder,
        serve(scenario, workers, Path(folder)) as server,
    ):
        count = min(workers, scenario.customers)
        customers = Customers(server.port, count, scenario.page, scenario.hold_s, scenario.pause_s)
        try:
            customers.start()
            for page in scenario.asks:
                customers.ask(page, ASK_S)
            yield server.pid
        finally:
            customers.stop()
