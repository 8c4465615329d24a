"""Connections before they have shown the key: few, for a short time, and the oldest makes room for the newest.

Anybody on the machine can open connections and say nothing. They must neither use up our descriptors nor keep the one
out who has the address.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from typing import Any

from aiohttp import web

# Who has the key may come from far away, and needs a round trip before the request: in that time no more may come.
MOST_STRANGERS = 1024
PATIENCE_S = 10.0


class Door:
    """`visitors` makes what a listening socket needs for each connection."""

    def __init__(self, patience_s: float = PATIENCE_S, most: int = MOST_STRANGERS) -> None:
        self._patience_s = patience_s
        self._most = min(most, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._strangers: dict[Visitor, asyncio.TimerHandle] = {}

    def visitors(self, server: web.Server, **options: Any) -> Callable[[], Visitor]:
        loop = asyncio.get_running_loop()
        return lambda: Visitor(self, server, loop=loop, **options)

    def enter(self, visitor: Visitor) -> None:
        timer = asyncio.get_running_loop().call_later(self._patience_s, visitor.turn_away)
        self._strangers[visitor] = timer
        if len(self._strangers) > self._most:
            next(iter(self._strangers)).turn_away()

    def admit(self, visitor: object) -> None:
        """It has shown the key; it may stay."""
        if isinstance(visitor, Visitor):
            self.leave(visitor)

    def leave(self, visitor: Visitor) -> None:
        timer = self._strangers.pop(visitor, None)
        if timer is not None:
            timer.cancel()


class Visitor(web.RequestHandler):
    """One connection."""

    __slots__ = ("_door",)

    def __init__(self, door: Door, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._door.enter(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.leave(self)
        super().connection_lost(exc)

    def turn_away(self) -> None:
        """Close the connection at once. Unsent data is dropped."""
        self._door.leave(self)
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()
