"""Serve the live view as a page to users who have its address. Each page has its own process.

textual-serve provides the terminal in the page and the protocol. Its own server checks neither users nor the origin of
pages, loads a font from the web and runs its command by a shell (1.1.3). So this server replaces it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from importlib import resources

from aiohttp import WSMsgType, web
from aiohttp.http import HttpProcessingError

from semtrace.errors import SemtraceError
from semtrace.text import clean
from semtrace.web.door import Door
from semtrace.web.gate import Gate
from semtrace.web.view_process import Session

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MOST_SESSIONS = 8
MOST_MESSAGE = 1 << 16
HEARTBEAT_S = 15.0
WIDTHS = (20, 500)
HEIGHTS = (5, 200)
MOST_REFUSALS_SHOWN = 20

# Whatever may be in the page, it loads nothing from elsewhere, talks to nobody else, and is in nobody else's frame.
# xterm.js makes its styles while it runs.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}

_OURS = {"": ("page.html", "text/html"), "page.js": ("page.js", "text/javascript")}
_THEIRS = {
    "textual.js": ("js/textual.js", "text/javascript"),
    "xterm.css": ("css/xterm.css", "text/css"),
    "font.ttf": ("fonts/RobotoMono-VariableFont_wght.ttf", "font/ttf"),
}


class Site:
    """`argv` is the live view's command; `say` takes a line for the user who started the server."""

    def __init__(self, gate: Gate, argv: Sequence[str], say: Callable[[str], None]) -> None:
        self._gate = gate
        self._argv = argv
        self._say = say
        self._reported: set[str] = set()
        self._sockets: set[web.WebSocketResponse] = set()
        self.door = Door()

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._guarded])
        application.router.add_get("/{token}/ws", self._talk)
        application.router.add_get("/{token}/{name:[a-z.]*}", _file)
        application.on_shutdown.append(self._close)
        return application

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer only users who know the address. Others do not learn what exists."""
        token = f"{request.path}/".split("/")[1]  # the path of `GET *` is that
        if not self._gate.admits_host(request.host):
            self._refused(f"under the name {request.host!r}, which is not this machine's as far as is known")
            response: web.StreamResponse = _refusal("this server is not known under that name")
        elif not self._gate.knows(token):
            response = _refusal("open the whole address that `semtrace serve` has printed")
        else:
            self.door.admit(request.protocol)
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = _refusal(error.reason, error.status)
        if not response.prepared:
            response.headers.update(_HEADERS)
            response.force_close()  # the next request knocks again
        return response

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        """One live view, until its page or it itself ends."""
        origin = request.headers.get("Origin")
        if not self._gate.admits_page(origin, request.host):
            self._refused(f"by a page from {origin!r}: only the page that this server gives out may talk to it")
            return _refusal("only the page that this server gives out may talk to it")
        if len(self._sockets) >= MOST_SESSIONS:
            return _refusal(f"{MOST_SESSIONS} views are open already: close one", 503)
        websocket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MOST_MESSAGE)
        self._sockets.add(websocket)
        try:
            await websocket.prepare(request)  # raises HTTPException if the request is not for a WebSocket
            with suppress(ConnectionError):
                await _run(Session(self._argv, websocket), websocket, _size(request.query))
                await websocket.close()
        finally:
            self._sockets.discard(websocket)
        return websocket

    async def _close(self, application: web.Application) -> None:
        for websocket in tuple(self._sockets):
            await websocket.close(code=1001, message=b"semtrace serve ends")

    def _refused(self, why: str) -> None:
        """Report a refusal once for each reason, up to a limit."""
        line = clean(f"refused: it was asked for {why}"[:300])
        if line not in self._reported and len(self._reported) < MOST_REFUSALS_SHOWN:
            self._reported.add(line)
            self._say(line)


async def serve(site: Site, listening: socket.socket, ready: Callable[[], None]) -> int:
    """Serve until a signal ends it; return the exit code. All live views have ended then."""
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    for number, code in ((signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        asyncio.get_running_loop().add_signal_handler(number, end, code)
    runner = web.AppRunner(site.application(), access_log=None, shutdown_timeout=5.0, logger=_logger())
    await runner.setup()
    assert runner.server is not None
    visitors = site.door.visitors(runner.server, access_log=None, logger=_logger(), keepalive_timeout=5.0)
    listener = await asyncio.get_running_loop().create_server(visitors, sock=listening)
    try:
        ready()
        return await ended
    finally:
        listener.close()
        await runner.cleanup()


def _logger() -> logging.Logger:
    """Return the logger for our own bugs. aiohttp also logs a traceback for all requests other than HTTP: a port scan
    would fill it.
    """
    logger = logging.getLogger("semtrace.web")
    logger.addFilter(lambda record: not isinstance((record.exc_info or (None, None))[1], HttpProcessingError))
    return logger


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises SemtraceError if that is not possible."""
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(place[:2], family=family)
    except socket.gaierror as error:
        raise SemtraceError(
            f"cannot listen on {clean(host)}: {error.strerror}", "name an address of this machine"
        ) from error
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SemtraceError(f"cannot listen on {host} port {port}: {reason}", "--port 0 takes any free one") from error


async def _file(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name in _OURS:
        path, kind = _OURS[name]
        found = resources.files("semtrace.web") / path
    elif name in _THEIRS:
        path, kind = _THEIRS[name]
        found = resources.files("textual_serve") / "static" / path
    else:
        raise web.HTTPNotFound
    return web.Response(body=found.read_bytes(), content_type=kind)


async def _run(session: Session, websocket: web.WebSocketResponse, size: tuple[int, int]) -> None:
    await session.start(*size)
    try:
        async for message in websocket:
            if message.type is not WSMsgType.TEXT or not await _obey(session, websocket, message.data):
                break
    finally:
        await session.stop()


async def _obey(session: Session, websocket: web.WebSocketResponse, text: str) -> bool:
    """Obey a message of the page (textual-serve 1.1.3, static/js/textual.js); return False if it is malformed."""
    try:
        match json.loads(text):
            case ["stdin", str(typed)]:
                await session.send_bytes(typed.encode("utf-8", "replace"))
            case ["resize", {"width": int(width), "height": int(height)}]:
                await session.set_terminal_size(_within(width, WIDTHS), _within(height, HEIGHTS))
            case ["ping", str(at)]:
                await websocket.send_json(["pong", at[:32]])
            case ["focus"]:
                await session.focus()
            case ["blur"]:
                await session.blur()
            case _:
                return False
    except (ValueError, RecursionError):  # no JSON
        return False
    return True


def _size(query: Mapping[str, str]) -> tuple[int, int]:
    """Return the size that the page asks for, within bounds."""
    try:
        width, height = int(query["width"]), int(query["height"])
    except (KeyError, ValueError):
        width, height = 80, 24
    return _within(width, WIDTHS), _within(height, HEIGHTS)


def _within(number: int, bounds: tuple[int, int]) -> int:
    return min(max(number, bounds[0]), bounds[1])


def _refusal(why: str, status: int = 403) -> web.Response:
    return web.Response(status=status, text=f"semtrace: {why}\n")
