"""`n` and `N`: search a recording for the next finding or death, in a thread: a long one takes many seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable

from textual.message import Message

from semtrace.errors import SemtraceError
from semtrace.tui.messages import Broken
from semtrace.tui.state import Player

NOTHING = "there is no other finding or death"


class Found(Message):
    """The search is over: `text` is what was found, or why nothing was."""

    def __init__(self, text: str, style: str = "strong") -> None:
        super().__init__()
        self.text = text
        self.style = style


class Search:
    """One search at a time."""

    def __init__(self, post: Callable[[Message], object]) -> None:
        self._post = post
        self._busy = threading.Lock()

    def start(self, player: Player, by: int) -> bool:
        """Return False if one is under way."""
        if not self._busy.acquire(blocking=False):
            return False
        threading.Thread(target=self._run, args=(player, by), name="semtrace-search", daemon=True).start()
        return True

    def _run(self, player: Player, by: int) -> None:
        message: Message
        try:
            message = Found(player.event(by) or NOTHING)
        except SemtraceError as error:
            message = Found(f"{error}", "warning")
        except Exception as error:  # noqa: BLE001  a thread's traceback would be lost: the app raises it
            message = Broken(error)
        finally:
            self._busy.release()
        self._post(message)
