"""Restoring the terminal whatever ends the view: a signal, or the terminal that is closed."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

# How long leaving may take before the process ends without it.
LEAVE_S = 2.0


class Ending:
    """`leave` ends the application with an exit code; `left` is set when that is done."""

    def __init__(self, leave: Callable[[int], object]) -> None:
        self.left = threading.Event()
        self._exit = leave

    def on_signals(self) -> None:
        """Handle SIGTERM and SIGHUP, which by default end Python at once, in the alternate screen with the mouse on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Outside the main thread this raises: the program that runs us there has its own handlers.
            with suppress(RuntimeError, ValueError):
                loop.add_signal_handler(number, self._leave, 128 + number)

    def on_hangup(self, terminal: int) -> None:
        """Leave when the other end of this descriptor's terminal is closed. Only the session that a terminal controls
        gets a signal for that; all others would read and write at nobody's, without a pause.
        """
        watch = threading.Thread(
            target=self._watch, args=(asyncio.get_running_loop(), terminal), name="semtrace-hangup", daemon=True
        )
        watch.start()

    def _watch(self, loop: asyncio.AbstractEventLoop, terminal: int) -> None:
        poll = select.poll()
        poll.register(terminal, 0)  # a hang-up is always reported
        if poll.poll():
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._leave, 128 + signal.SIGHUP)

    def _leave(self, code: int) -> None:
        self._exit(code)
        threading.Thread(target=self._make_sure, args=(code,), name="semtrace-leave", daemon=True).start()

    def _make_sure(self, code: int) -> None:
        """End the process if leaving takes too long.

        A closed terminal ends Textual's writing thread (8.2.8, _writer_thread.py) with its queue full. A thread that
        writes then is stuck: the program would stay behind after every ssh that drops.
        """
        if not self.left.wait(LEAVE_S):
            os._exit(code)
