"""Root's commands run in a child, which nobody notices: signals, output, exit codes, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import PATIENCE_S, alive, child_pids, wait_until
from support.commands import SOURCE

from semtrace.linux import withheld
from semtrace.linux.memory import Memory
from semtrace.linux.syscalls import NUMBERS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's commands are supervised")

COMMAND = """
import contextlib, os, signal, sys, time
from semtrace.console.supervising import supervised
def command():
    {}
sys.exit(supervised(command, again=True))
"""


# Caught or not: Python ends by the signal in the end.
INTERRUPTED = "signal.raise_signal(signal.SIGINT)"


def start(what: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(what)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )


@pytest.mark.parametrize(
    ("what", "code", "out"),
    [
        ("print('said'); return 3", 3, "said\n"),
        ("print('x' * 300_000, end=''); return 0", 0, "x" * 300_000),
        ("sys.exit(5)", 5, ""),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        (f"with contextlib.suppress(KeyboardInterrupt): exec({INTERRUPTED!r})\n    return 130", 130, ""),
    ],
)
def test_output_and_exit_code_are_the_childs(what: str, code: int, out: str) -> None:
    popen = start(what)
    assert (popen.communicate(timeout=PATIENCE_S)[0], popen.returncode) == (out, code)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_child(number: signal.Signals) -> None:
    waits = "[time.sleep(0.05) for _ in iter(int, 1)]"  # one long sleep may miss a signal that comes right before it
    popen = start(f"signal.signal({int(number)}, lambda *_: sys.exit(7)); print('ready', flush=True); {waits}")
    assert popen.stdout
    assert popen.stdout.readline() == "ready\n"
    popen.send_signal(number)
    popen.communicate(timeout=PATIENCE_S)
    assert popen.returncode == 7


def test_killed_parent_leaves_no_child() -> None:
    popen = start("print('ready', flush=True); time.sleep(60)")
    assert popen.stdout
    popen.stdout.readline()
    (child,) = child_pids(popen.pid)
    popen.kill()
    popen.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not alive(child), what="the child to end")


def test_signal_ends_it_though_nobody_reads_its_output() -> None:
    popen = start("[print('line', flush=True) for _ in iter(int, 1)]")
    assert popen.stdout
    popen.stdout.readline()
    writes = f"/proc/{child_pids(popen.pid)[0]}/task/{child_pids(popen.pid)[0]}/syscall"
    wait_until(lambda: Path(writes).read_text().startswith(f"{NUMBERS['write']} "), what="the pipes to be full")
    popen.terminate()
    popen.wait(PATIENCE_S)
    popen.communicate()


def test_reader_that_ends_first_ends_the_child_too() -> None:
    popen = start("[print('line', flush=True) for _ in iter(int, 1)]")
    assert popen.stdout
    popen.stdout.readline()
    popen.stdout.close()
    popen.wait(PATIENCE_S)
    assert popen.stderr
    assert "BrokenPipe" in popen.stderr.read()
    popen.stderr.close()


def test_process_that_withholds_its_memory_is_not_read_again() -> None:
    withheld.PIDS.add(os.getpid())
    try:
        with pytest.raises(PermissionError):
            Memory(os.getpid())
    finally:
        withheld.PIDS.clear()
