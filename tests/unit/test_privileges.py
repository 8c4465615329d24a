"""Root gives up what is not needed, and keeps what is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from commands import SOURCE

from semtrace.linux import privileges

PROBE = """
import os, sys
from semtrace.linux import privileges
privileges.drop_all_but(privileges.TO_LOOK)
fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(*(int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")), fields["NoNewPrivs"].strip())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities")
def test_root_keeps_only_what_looking_needs() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True)
    *sets, no_new = map(int, done.stdout.split())
    allowed = sum(1 << number for number in privileges.TO_LOOK)
    assert all(not each & ~allowed for each in sets), done
    assert sets[0] >> privileges.SYS_PTRACE & 1
    assert no_new == 1
