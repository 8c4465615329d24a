"""Run a command in a child process that can be abandoned, for root: a hostile process can stop its reader.

A reader of a page that its file system withholds cannot be killed, and neither can its shell go on. So the reading is
done by a child. One that is stuck is left behind, and the command begins again without the process that stopped it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress

from semtrace.console.printing import say
from semtrace.errors import EXIT_FAILED
from semtrace.linux import withheld
from semtrace.linux.process import thread_ids
from semtrace.linux.relay import Came, Relay, Signals
from semtrace.linux.withheld import Call

# A slow disk answers sooner. The child is looked at once a second.
PATIENCE_SAMPLES = 4
MOST_ATTEMPTS = 8
_LOOK_EVERY_S = 1.0

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h

# The main screen, the cursor, no mouse, no bracketed paste, no colour (xterm's ctlseqs).
_AS_IT_WAS = "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m"


def supervised(command: Callable[[], int], *, again: bool, left: str = "") -> int:
    """The command's exit code; it runs in this very process where nobody needs to be feared.

    `again` is False for what may have acted already when it got stuck; `left` says what it has then left undone.
    """
    if os.geteuid() != 0:
        return command()
    terminal = _terminal()
    for _ in range(MOST_ATTEMPTS):
        child = _Child(command)
        code, stuck_in = child.watch()
        if stuck_in is None:
            return code
        _restore(terminal)
        reason = f"process {stuck_in} blocks its readers: a file that it uses does not answer"
        if child.has_ended or not again or stuck_in in withheld.PIDS:
            say(f"{reason}; PID {child.pid} of semtrace stays behind until it does")
            if left and not child.has_ended:
                say(left)
            return code
        say(f"{reason}; reading again without it")
        withheld.PIDS.add(stuck_in)
    say("too many processes block their readers")
    return EXIT_FAILED


class _Child:
    """The process that does the work. What it returned comes through a pipe: a stuck thread keeps it from ending."""

    def __init__(self, command: Callable[[], int]) -> None:
        sys.stdout.flush()
        self._result, result = os.pipe()
        self._relay = Relay()
        signals = {*_FORWARDED, signal.SIGCHLD}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        self.pid = os.fork()
        if not self.pid:
            os.close(self._result)
            self._relay.in_child()
            _work(command, result, before)
        os.close(result)
        self._relay.in_parent()
        self._signals = Signals(signals)
        self._before = before
        self._code: int | None = None

    @property
    def has_ended(self) -> bool:
        """It has done all that it had to do."""
        return self._code is not None

    def watch(self) -> tuple[int, int | None]:
        """Its exit code, and the process that it is stuck in, None if it ended well."""
        try:
            return self._watch()
        finally:
            self._signals.close()
            os.close(self._result)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
            self._relay.close()

    def _watch(self) -> tuple[int, int | None]:
        stuck: dict[tuple[int, Call], int] = {}
        due_s = time.monotonic() + _LOOK_EVERY_S
        while True:
            waiting = [self._signals.fd, *self._relay.sources]
            ready, takes, _ = select.select(waiting, self._relay.targets, [], max(due_s - time.monotonic(), 0.0))
            self._relay.pass_on(ready, takes)
            for came in self._signals.read():
                self._forward(came)
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                self._stop_with_it()
            elif pid:
                return self._exit_code(status), None
            if time.monotonic() < due_s:
                continue
            due_s = time.monotonic() + _LOOK_EVERY_S
            now = [(tid, found) for tid in thread_ids(self.pid) if (found := withheld.culprit(tid)) is not None]
            stuck = {each: stuck.get(each, 0) + 1 for each in now}
            self._read_code()
            for (_, call), samples in stuck.items():
                if samples >= (2 if self.has_ended else PATIENCE_SAMPLES):
                    return self._abandon(), call.pid

    def _forward(self, came: Came) -> None:
        """Pass on a signal that somebody sent to us. A signal from a key of the terminal reaches both."""
        if came.number in _FORWARDED and came.code <= 0:
            with suppress(ProcessLookupError):
                os.kill(self.pid, came.number)

    def _stop_with_it(self) -> None:
        """A live view that was put into the background: the shell waits for us, not for the child."""
        os.kill(os.getpid(), signal.SIGSTOP)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def _read_code(self) -> None:
        os.set_blocking(self._result, False)
        with suppress(BlockingIOError):
            data = os.read(self._result, 1)
            if data:
                self._code = data[0]

    def _exit_code(self, status: int) -> int:
        """Return the child's exit code, also where a signal ended it after that. Python ends by SIGINT if
        KeyboardInterrupt was once raised in exec() of a text, as of dataclasses, also if it was caught (3.8 to 3.15,
        Python/pythonrun.c run_eval_code_obj).
        """
        if os.WIFSIGNALED(status):
            self._read_code()
        return _as_exit_code(status) if self._code is None else self._code

    def _abandon(self) -> int:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # its other threads, and it itself if the file ever answers
        return EXIT_FAILED if self._code is None else self._code


def _work(command: Callable[[], int], result: int, mask: set[int | signal.Signals]) -> None:
    """Run the command in the child; does not return."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_FAILED)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    code = EXIT_FAILED
    try:
        code = command()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else EXIT_FAILED
        raise
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
        raise
    finally:
        with suppress(OSError):
            os.write(result, bytes([code & 0xFF]))
    raise SystemExit(code)


def _as_exit_code(status: int) -> int:
    """A child that a signal ended: so do we end, for the shell to see."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    with suppress(OSError):  # SIGKILL
        signal.signal(-code, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
    os.kill(os.getpid(), -code)
    return 128 - code


def _terminal() -> list[object] | None:
    try:
        return termios.tcgetattr(0)
    except termios.error:
        return None


def _restore(terminal: list[object] | None) -> None:
    """Give the terminal back as it was, which an abandoned live view cannot do any more."""
    if terminal is None or not sys.stdout.isatty():
        return
    with suppress(termios.error, OSError):
        termios.tcsetattr(0, termios.TCSADRAIN, terminal)  # type: ignore[arg-type]
        os.write(1, _AS_IT_WAS.encode())
