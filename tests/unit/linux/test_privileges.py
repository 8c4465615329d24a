"""Root gives up what is not needed, and keeps what is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import SOURCE

from semtrace.linux import privileges
from semtrace.observe import pyspy

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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities")
def test_py_spy_gets_less_and_semtrace_keeps_its_own(tmp_path: Path) -> None:
    fake = tmp_path / "py-spy"
    fake.write_text("#!/bin/sh\nexec grep CapEff: /proc/self/status\n")
    fake.chmod(0o755)
    before = Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0]
    given = int(pyspy._output(str(fake), os.getpid()).split()[1], 16)
    assert given >> privileges.SYS_PTRACE & 1
    assert not given & ~sum(1 << number for number in privileges.TO_READ_STACKS)
    assert Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0] == before
