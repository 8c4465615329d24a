"""SharedMemory that nobody unlinked fills /dev/shm: on a small one of its own, never the machine's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from commands import SOURCE

from cases.examining import asked
from cases.expectations import PROGRAMS
from cases.sickness import running

BLOCK = "psm_batch0"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="a mount of its own takes root")
def test_abandoned_shared_memory_is_shown_and_offered_to_clean() -> None:
    mounted = "mount -t tmpfs -o size=1m none /dev/shm && exec "
    with running(["unshare", "-m", "sh", "-c", f"{mounted}{sys.executable} shm_full.py"], PROGRAMS) as sick:
        sick.wait_output("ready")
        _, doctor = asked("doctor", sick.pid, "--for", 0.5)
        full = [finding for finding in doctor["findings"] if finding["code"] == "shm-full"]
        assert full, doctor["findings"]
        assert any(BLOCK in line for line in full[0]["evidence"])
        inside = ["nsenter", "-t", str(sick.pid), "-m", sys.executable, "-m", "semtrace", "clean"]
        offered = subprocess.run(
            inside, env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, text=True, check=False
        )
        assert BLOCK in offered.stdout
