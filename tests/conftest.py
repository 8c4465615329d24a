"""Tests run side by side (`pytest -n auto`); one that is marked `serial` runs alone."""

from __future__ import annotations

import fcntl
import os
import signal
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says on a busy machine nothing of what is tested.
settings.register_profile("semtrace", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("semtrace"), max_examples=5)  # .ci/hosts
settings.register_profile("thorough", settings.get_profile("semtrace"), max_examples=200)  # for a night
# The same examples in each run: what a new one finds is a bug of today's code, not of the change that CI judges.
settings.register_profile("ci", settings.get_profile("semtrace"), max_examples=50, derandomize=True)  # .ci/run
settings.load_profile("semtrace")


# How many tests a worker gets at a time. By default it begins with hundreds, and the others end long before it.
CHUNK = 4


def pytest_configure(config: pytest.Config) -> None:
    """Start what a script starts in the background with a Ctrl-C that works, and hand out tests in small portions."""
    if getattr(config.option, "maxschedchunk", 0) is None:
        config.option.maxschedchunk = CHUNK
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Five on two processors keep both busy. With six, five to seven processes waited for one at any time, and each
    test took longer for nothing.
    """
    return 5 * (os.cpu_count() or 1) // 2


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under `-n`, mix the tests that wait with those that compute, and put the serial ones last.

    Each serial test would otherwise let all other workers wait. The order is the same in each worker and in each run.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[bool, float]:
    """Return where a test comes: a long one in the first half, so that no worker is left alone with it at the end.

    Tests of one file that share a fixture of their module stay together.
    """
    shares = any(each[0].scope == "module" for each in item._fixtureinfo.name2fixturedefs.values())  # type: ignore[attr-defined]
    place = zlib.crc32((item.nodeid.split("::")[0] if shares else item.nodeid).encode()) / 2**32
    is_long = shares or item.get_closest_marker("slow") is not None
    return item.get_closest_marker("serial") is not None, place / 2 if is_long else place


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
