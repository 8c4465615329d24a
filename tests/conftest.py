"""Tests run side by side (`pytest -n auto`); one that is marked `serial` runs alone."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says on a busy machine nothing of what is tested.
settings.register_profile("semtrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("semtrace"), max_examples=5)  # --hypothesis-profile=quick
settings.load_profile("semtrace")


def pytest_configure(config: pytest.Config) -> None:
    """What a script starts in the background ignores Ctrl-C, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Most tests wait for processes most of the time: two for each processor."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _alone_if_serial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests share a lock; a serial one has it for itself, and keeps the gate until then so that no other slips in."""
    if not hasattr(request.config, "workerinput"):  # no xdist: there is only one process
        yield
        return
    shared = tmp_path_factory.getbasetemp().parent
    serial = request.node.get_closest_marker("serial") is not None
    with (shared / "turn").open("a") as turn:
        with (shared / "gate").open("a") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(turn, fcntl.LOCK_EX if serial else fcntl.LOCK_SH)
        yield
