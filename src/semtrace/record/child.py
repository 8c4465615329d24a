"""A recorder in a process of its own, for the live view: it costs the view nothing, and ends with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from semtrace.errors import SemtraceError, UsageError
from semtrace.linux import safefile

# What a recorder takes to write the last snapshots, on a busy machine.
_PATIENCE_S = 10.0
_MOST_SIZE = "1G"
_PREFIX = "semtrace: "
_MOST_STDERR = 1 << 16
# Not `-m`: that would look for semtrace in the directory in which somebody happens to stand.
_PROGRAM = "import sys; sys.path[:] = filter(None, sys.path); from semtrace.cli import main; sys.exit(main())"


class RecorderChild:
    """A recorder process, at most one at a time. `start` returns where the file goes, `stop` what is in it."""

    def __init__(self, folder: Path, ignore: Sequence[str] = ()) -> None:
        self._folder = folder
        self._ignore = tuple(ignore)
        self._popen: subprocess.Popen[bytes] | None = None
        self.path: Path | None = None

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def start(self, pid: int, events: bool, path: Path | None = None) -> str:
        """Record this server into a new file. Raises SemtraceError."""
        if self.running:
            raise UsageError("a recording is under way", "stop it first")
        if path is None:
            path = self._new_file(pid)
        check(path)
        command = [sys.executable, "-c", _PROGRAM, "record", str(pid), "-o", str(path), "--max-size", _MOST_SIZE]
        command += ["--also-events"] if events else []
        command += [f"--ignore={name}" for name in self._ignore]
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # what the terminal sends us does not reach it
            )
        except OSError as error:
            raise SemtraceError(f"cannot start a recorder: {error.strerror}", "use `semtrace record`") from error
        self.path = path
        return f"recording to {path}"

    def _new_file(self, pid: int) -> Path:
        try:
            with safefile.directory(self._folder, make=True, private=False):
                return self._folder / f"semtrace-{pid}-{time.strftime('%Y%m%d-%H%M%S')}.semrec"
        except OSError as error:
            why = f"cannot record in {self._folder}: {error.strerror}"
            raise SemtraceError(why, "set another folder in the settings") from error

    def stop(self) -> str:
        """End the recording, and return what became of it; nothing if there was none."""
        popen, self._popen = self._popen, None
        if popen is None:
            return ""
        if popen.poll() is None:
            popen.send_signal(signal.SIGTERM)
        return _last_message(popen)

    def news(self) -> str:
        """Return what became of a recording that has ended by itself; "" without one, or if it goes on."""
        return self.stop() if self._popen is not None and not self.running else ""


def check(path: Path) -> None:
    """UsageError if no such file can be made; the recorder checks again."""
    if path.exists():
        raise UsageError(f"{path} is there already", "choose another name, or remove it")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder", "choose a folder that you can write in")


def _last_message(popen: subprocess.Popen[bytes]) -> str:
    """Return the recorder's last sentence: it is a summary, or the error."""
    try:
        _, stderr = popen.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        popen.kill()
        _, stderr = popen.communicate()
    lines = stderr[-_MOST_STDERR:].decode(errors="replace").splitlines()
    sentences = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)]
    return sentences[-1] if sentences else f"the recorder ended with {popen.returncode}"
