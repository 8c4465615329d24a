"""`semtrace run`: starts a server with its locks traced, and ends with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from semtrace.errors import NoServer, SemtraceError, UsageError
from semtrace.instrument import places
from semtrace.instrument.bootstrap import environment
from semtrace.launch import logfiles
from semtrace.model import ProcessId, Server
from semtrace.servers import discovery, processes
from semtrace.servers.kinds.gunicorn import is_named_so

_LOOK_EVERY_S = 0.05
_OTHER_PROGRAM_S = 1.0  # for other programs than gunicorn to have started
_GUNICORN_S = 300.0  # it loads the application before it is ready, with --preload
_SOON_S = 0.5  # a shorter wait is not shown
_LAST_LINES = 20
_LAST_BYTES = 1 << 16
_PIECE = 1 << 18
_LONGEST_LINE = 4096


def check(command: Sequence[str]) -> None:
    """UsageError if there is nothing to run, or no such program."""
    _program(command)


def replace_by(command: Sequence[str]) -> None:
    """Become the server, so that its signals, output and exit code are its own. Returns only by raising."""
    program = _program(command)
    sys.stdout.flush()
    try:
        os.execve(program, list(command), environment(os.environ))
    except OSError as error:
        raise UsageError(f"cannot run {command[0]}: {error.strerror}", "give a command after --") from error


class Launched:
    """A server that is our child, in a session of its own: what the terminal sends us does not reach it.

    Its output goes to a file, not a pipe: it can go on when we have left.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = tuple(command)
        self.leave = False
        self._main_pid: int | None = None
        program = _program(command)
        logfiles.sweep()
        try:
            self._descriptor, self.log = logfiles.make()
        except OSError as error:
            why = error.strerror or str(error)
            raise SemtraceError(f"no file for the server's output can be made: {why}", "set TMPDIR") from error
        self._read_to = 0
        self._rest = b""
        try:
            self._popen = subprocess.Popen(
                command,
                executable=program,
                env=environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=self._descriptor,
                stderr=self._descriptor,
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._descriptor)
            self.log.unlink()
            raise UsageError(f"cannot run {command[0]}: {error.strerror}", "give a command after --") from error
        self.log = logfiles.name_after(self.log, self.pid)
        ticks = places.start_ticks(self.pid)
        self._roots = {ProcessId(self.pid, ticks)} if ticks is not None else set()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int:
        """Return it as a shell does: 128 and the signal if it was killed."""
        code = self._popen.wait()
        return code if code >= 0 else 128 - code

    def server(self) -> Server:
        """Wait until it is a server. If it ends before, raise its last lines."""
        began = time.monotonic()
        while self.running:
            found = self._found()
            waited_s = time.monotonic() - began
            if found is not None and found.kind != "python":
                self._main_pid = found.pid
                self._roots.add(found.id)
                return found
            patience_s = _GUNICORN_S if self._is_gunicorn() else _OTHER_PROGRAM_S
            if found is not None and waited_s >= patience_s:
                return found
            time.sleep(_LOOK_EVERY_S)
        raise self._failed()

    def output(self) -> list[str]:
        """Return the lines that it wrote since the last call. Of an endless one, such as a progress bar, return the
        beginning.
        """
        data = os.pread(self._descriptor, _PIECE, self._read_to)  # the name may have gone: what tidies /tmp takes it
        self._read_to += len(data)
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:_LONGEST_LINE]
        return [line[:_LONGEST_LINE].decode(errors="replace") for line in whole]

    def last_lines(self) -> list[str]:
        """Return the end of its output so far, also if somebody has removed the file meanwhile."""
        begin = max(os.fstat(self._descriptor).st_size - _LAST_BYTES, 0)
        data = os.pread(self._descriptor, _LAST_BYTES, begin)
        return [line[:_LONGEST_LINE] for line in data.decode(errors="replace").splitlines()[-_LAST_LINES:]]

    def stop(self, tell: Callable[[str], object] | None = None) -> int:
        """Stop it by TERM, as Ctrl-C would; a second request is INT (gunicorn: at once), a third KILL. Return the exit
        code.

        gunicorn gives its workers 30 s (--graceful-timeout): `tell` gets a line about a wait that takes long.
        """
        wishes = [(signal.SIGTERM, " (Ctrl-C hurries it)"), (signal.SIGINT, " (Ctrl-C kills it)"), (signal.SIGKILL, "")]
        further = ""
        while self.running:
            if wishes:
                number, further = wishes.pop(0)
                self._signal(number)
            try:
                if not self._ended_within(_SOON_S) and tell is not None:
                    tell(f"waiting for process {self.pid} to stop{further}")
                self._popen.wait()
            except KeyboardInterrupt:
                continue
        return self.exit_code

    def _ended_within(self, seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        return not self.running

    def _signal(self, number: signal.Signals) -> None:
        """Send it to gunicorn itself if another program started it: not every such program passes signals on."""
        with contextlib.suppress(ProcessLookupError):
            if self._main_pid is not None and self._main_pid in processes.descendants(self.pid):
                os.kill(self._main_pid, number)
                return
        self._popen.send_signal(number)

    def forget(self) -> None:
        """Remove the log of a server that has ended, and what its killed workers left. Until then the log is open
        here: another run leaves it alone.
        """
        for root in self._roots if not self.running else ():
            places.remove_ended(root)
        if not self.running and self._descriptor >= 0:
            self.log.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def _found(self) -> Server | None:
        """The gunicorn among the child and its descendants (poetry run, a shell), else the child itself."""
        other = None
        for pid in [self.pid, *processes.descendants(self.pid)]:
            try:
                found = discovery.server_of(pid)
            except SemtraceError:
                continue
            if found.kind != "python":
                return found
            other = other or found
        return other

    def _is_gunicorn(self) -> bool:
        family = [self.pid, *processes.descendants(self.pid)]
        return any(is_named_so(processes.cmdline(pid)) for pid in family)

    def _failed(self) -> SemtraceError:
        lines = self.last_lines()
        self.forget()
        error = NoServer(f"{self.command[0]} ended with {self.exit_code} before it served", "\n  ".join(lines))
        error.exit_code = self.exit_code or NoServer.exit_code
        return error


def _program(command: Sequence[str]) -> str:
    if not command:
        raise UsageError("there is nothing to run", "semtrace run -- gunicorn myapp:app")
    program = shutil.which(command[0])
    if program is None:
        raise UsageError(f"there is no program {command[0]}", "is its virtual environment active?")
    return program
