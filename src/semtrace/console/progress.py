"""One line on a terminal that says what a command is doing, erased before anything else is printed and at the end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from semtrace.text import age, clean

# A command that is done sooner shows nothing.
_PAUSE_S = 1.0
_ERASE = "\r\x1b[K"  # ECMA-48 8.3.41, EL
_WIDTH = 78


class _Line:
    """Written by a thread of its own, for the command itself is at work."""

    def __init__(self, what: str, write: Callable[[str], None]) -> None:
        self._what = clean(what)
        self._write = write
        self._began_s = time.monotonic()
        self._writing = threading.Lock()
        self._shown = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show, name="semtrace-progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self.erase()

    def erase(self) -> None:
        with self._writing:
            if self._shown:
                self._shown = False
                self._write(_ERASE)

    def _show(self) -> None:
        while not self._ended.wait(_PAUSE_S):
            with self._writing:
                passed = f", {age(int(time.monotonic() - self._began_s))}"
                self._shown = True
                self._write(f"{_ERASE}{self._what[: _WIDTH - len(passed)]}{passed}")


_current: _Line | None = None


@contextlib.contextmanager
def shown(what: str, write: Callable[[str], None]) -> Iterator[None]:
    """Write it to a terminal while the block runs, once that takes long."""
    global _current
    _current = _Line(what, write)
    _current.start()
    try:
        yield
    finally:
        _current.end()
        _current = None


def erase() -> None:
    """Make room for what is printed now."""
    if _current is not None:
        _current.erase()
