"""SharedMemory that nobody unlinked fills /dev/shm: a small one of its own, never the machine's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import SOURCE

from cases.examining import asked
from cases.expectations import PROGRAMS
from cases.sickness import Sick, running

MOUNT = "mount -t tmpfs -o size=1m none /dev/shm"
BLOCKS = [f"psm_batch{number}" for number in range(9)]

# To `clean` all is old enough at once.
CLEAN = """
import sys
from semtrace.cli import main
from semtrace.repairs import leftovers
leftovers.YOUNG_S = -60.0
sys.exit(main(["clean", *sys.argv[1:]]))
"""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="a mount of its own takes root and unshare"
)


@pytest.fixture
def sick() -> Iterator[Sick]:
    argv = ["unshare", "-m", "sh", "-c", f"{MOUNT} && exec {sys.executable} shm_full.py"]
    with running(argv, PROGRAMS) as program:
        program.wait_output("ready")
        yield program


def test_abandoned_blocks_are_what_fills_it(sick: Sick) -> None:
    code, doctor = asked("doctor", sick.pid, "--for", 0.5)
    (full,) = _of(doctor, "shm-full")
    assert (code, full["severity"]) == (0, "warning")
    assert sorted(file["name"] for file in full["files"]) == [f"/{name}" for name in BLOCKS]
    assert {(file["sort"], file["size"]) for file in full["files"]} == {("block", 102_400)}
    assert any(BLOCKS[0] in line for line in full["evidence"])
    assert "nsenter" in full["remedy"], "another /dev/shm than ours"
    assert _of(doctor, "leaked-name") == [], "they are younger than a minute"


def test_clean_leaves_young_blocks_alone_and_says_why(sick: Sick) -> None:
    text = _inside(sick, "-m", "semtrace", "clean", "--yes")
    assert "younger than a minute" in text
    assert BLOCKS[0] in text
    assert _there(sick) == BLOCKS


def test_clean_offers_and_removes_old_blocks(sick: Sick, tmp_path: Path) -> None:
    offered = _inside(sick, "-c", CLEAN)
    assert all(name in offered for name in BLOCKS)
    assert "9 leftover SharedMemory blocks, 900K in all." in offered
    assert _there(sick) == BLOCKS
    audit = tmp_path / "audit"
    assert "Removed 9 leftover SharedMemory blocks" in _inside(sick, "-c", CLEAN, "--yes", "--audit", str(audit))
    assert _there(sick) == []
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [line["name"] for line in lines if line["stage"] == "done"] == BLOCKS
    _, doctor = asked("doctor", sick.pid, "--for", 0.5)
    assert _of(doctor, "shm-full") == []


def _of(report: dict[str, Any], code: str) -> list[dict[str, Any]]:
    return [finding for finding in report["findings"] if finding["code"] == code]


def _there(sick: Sick) -> list[str]:
    return sorted(os.listdir(f"/proc/{sick.pid}/root/dev/shm"))


def _inside(sick: Sick, *arguments: str) -> str:
    """Return what our interpreter prints in the program's mount namespace."""
    argv = ["nsenter", "-t", str(sick.pid), "-m", sys.executable, *arguments]
    done = subprocess.run(
        argv, env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
