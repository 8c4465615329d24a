"""Two are never let in, however releases, acquires and deaths fall together. tests/bench/release.py does it longer."""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from pathlib import Path

import pytest
from support import PROGRAMS, start, wait_until
from support.racing import RECORD, WORKERS, race, record

from semtrace.linux.maps import SemaphoreMaps
from semtrace.linux.post import open_semaphore

SERVERS, PATIENCE_S = 2, 120.0
ENOUGH = 5  # releases; `tests/bench/release.py` makes as many as you like


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.skipif(os.geteuid() != 0, reason="opens /proc/PID/map_files: needs root")
def test_two_holders_are_never_let_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(1 << 30)
    raced = race(tmp_path, SERVERS, seed, _is_enough, PATIENCE_S)
    with capsys.disabled():
        print(f" seed {seed}, {dict(raced.outcomes)}, came in {raced.came_in}")
    assert raced.wrong == [0] * SERVERS
    assert raced.outcomes["released"] >= ENOUGH
    assert set(raced.outcomes) <= {"released", "refused", "killed"}


def _is_enough(so_far: Counter[str]) -> bool:
    return so_far["released"] >= ENOUGH and so_far["released"] + so_far["refused"] >= 70


@pytest.mark.skipif(os.geteuid() != 0, reason="opens /proc/PID/map_files: needs root")
def test_the_workers_notice_a_second_one_inside(tmp_path: Path) -> None:
    """What the test above rests on: a unit given back without a proof is noticed."""
    file = tmp_path / "shared"
    file.write_bytes(bytes(RECORD.size))
    with start(sys.executable, str(PROGRAMS / "racing.py"), str(file), str(WORKERS), "300") as (root, log):
        wait_until(lambda: "ready" in log.read_text())
        maps = SemaphoreMaps(root.pid)
        (semaphore,) = [mapped.id for mapped in maps.semaphores()]
        maps.close()
        with open_semaphore(semaphore, None, [root.pid]) as opened:
            wait_until(lambda: (opened.give_back(1), record(file)[2])[1])
