"""HTTP as far as a scrape needs it: one request a connection, with bounds on how many, how large and how slow.

prometheus_client's own server makes a thread for each connection, without a time-out. It shakes hands for TLS in the
thread that accepts, so one silent client keeps all others out.
"""

from __future__ import annotations

import asyncio
import gzip
import hmac
import ssl
import time
from collections.abc import Callable

from semtrace.metrics.access import Access

# Beyond so many the oldest connection is closed: an honest scrape takes a millisecond and is never the oldest.
MOST_CONNECTIONS = 64
REQUEST_S = 5.0
ANSWER_S = 10.0
_LONGEST_HEAD = 8192
_PIECE = 1 << 16

_PLAIN_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS = "application/openmetrics-text"
_OPENMETRICS_TYPE = f"{_OPENMETRICS}; version=1.0.0; charset=utf-8"
_INDEX = b"semtrace: metrics are at /metrics, health is at /-/healthy\n"

Answer = tuple[int, dict[str, str], bytes]
_WORDS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed"}
_WORDS |= {431: "Request Header Fields Too Large", 503: "Service Unavailable"}


class Site:
    """The newest page and the open connections. For one thread: that of the event loop."""

    def __init__(self, access: Access, stale_s: float, wanted: Callable[[], object]) -> None:
        self._access, self._stale_s, self._wanted = access, stale_s, wanted
        self._pages: dict[str, bytes] = {}
        self._packed: dict[str, bytes] = {}
        self._put_s = 0.0
        self._open: dict[asyncio.BaseProtocol, asyncio.Transport] = {}

    def put(self, plain: bytes, openmetrics: bytes | None) -> None:
        """Take a new page; the second format is there only if somebody `wanted` it."""
        self._pages = {_PLAIN_TYPE: plain} | ({_OPENMETRICS_TYPE: openmetrics} if openmetrics else {})
        self._packed = {}
        self._put_s = time.monotonic()

    # -- connections

    def protocol(self) -> asyncio.Protocol:
        return Request(self) if self._access.tls is None else Handshake(self, self._access.tls)

    def opened(self, connection: asyncio.BaseProtocol, transport: asyncio.Transport) -> None:
        while len(self._open) >= MOST_CONNECTIONS:
            oldest = next(iter(self._open))
            self._open.pop(oldest).abort()
        self._open[connection] = transport

    def closed(self, connection: asyncio.BaseProtocol) -> None:
        self._open.pop(connection, None)

    # -- requests

    def answer(self, head: bytes) -> Answer:
        """Return status, header fields and body for the head of a request."""
        request, *fields = head.split(b"\r\n")
        words = request.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return 400, {}, b"this is not HTTP/1.1\n"
        headers = dict(_field(each) for each in fields)
        expected = self._access.authorization
        if expected is not None and not hmac.compare_digest(headers.get(b"authorization", b""), expected):
            return 401, {"WWW-Authenticate": 'Basic realm="semtrace"'}, b"user and password are needed\n"
        if words[0] not in (b"GET", b"HEAD"):
            return 405, {"Allow": "GET, HEAD"}, b"use GET\n"
        return self._get(words[1].partition(b"?")[0], headers)

    def _get(self, path: bytes, headers: dict[bytes, bytes]) -> Answer:
        if path == b"/metrics":
            return self._metrics(headers)
        if path == b"/":
            return 200, {"Content-Type": "text/plain"}, _INDEX
        if path != b"/-/healthy":
            return 404, {}, _INDEX
        late = time.monotonic() - self._put_s > self._stale_s
        return (503, {}, b"no sample for too long\n") if late else (200, {}, b"healthy\n")

    def _metrics(self, headers: dict[bytes, bytes]) -> Answer:
        kind = _PLAIN_TYPE
        if _OPENMETRICS.encode() in headers.get(b"accept", b""):
            self._wanted()
            kind = _OPENMETRICS_TYPE if _OPENMETRICS_TYPE in self._pages else _PLAIN_TYPE
        if kind not in self._pages:
            return 503, {"Retry-After": "1"}, b"the first sample is being taken\n"
        if not _takes_gzip(headers.get(b"accept-encoding", b"")):
            return 200, {"Content-Type": kind}, self._pages[kind]
        if kind not in self._packed:
            self._packed[kind] = gzip.compress(self._pages[kind], 1)
        return 200, {"Content-Type": kind, "Content-Encoding": "gzip"}, self._packed[kind]


class Request(asyncio.Protocol):
    """One connection: a request, an answer, and the end."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._head = b""
        self._answered = self._paused = False
        self._rest = memoryview(b"")
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._site.opened(self, transport)
        self._expire(REQUEST_S)
        self._proceed()  # with TLS a request may be there already

    def connection_lost(self, exc: Exception | None) -> None:
        self._site.closed(self)
        if self._deadline is not None:
            self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        if not self._answered:
            self._head += data
            self._proceed()

    def _proceed(self) -> None:
        if self._transport is None:
            return
        head, end, _ = self._head.partition(b"\r\n\r\n")
        if end:
            self._answer(*self._site.answer(head), with_body=not head.startswith(b"HEAD "))
        elif len(self._head) > _LONGEST_HEAD:
            self._answer(431, {}, b"the request is too long\n")

    def _answer(self, status: int, fields: dict[str, str], body: bytes, with_body: bool = True) -> None:
        assert self._transport is not None
        self._answered = True
        self._expire(ANSWER_S)
        fields = {"Content-Type": "text/plain", **fields, "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {status} {_WORDS[status]}", *(f"{name}: {value}" for name, value in fields.items())]
        self._transport.write("\r\n".join([*lines, "", ""]).encode())
        self._rest = memoryview(body if with_body else b"")
        self._send()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()

    def _send(self) -> None:
        """Write in pieces: for a client that does not read, no more than a piece is copied."""
        assert self._transport is not None
        while self._rest and not self._paused:
            piece, self._rest = self._rest[:_PIECE], self._rest[_PIECE:]
            self._transport.write(piece)
        if self._answered and not self._rest:
            self._transport.close()

    def _expire(self, seconds: float) -> None:
        assert self._transport is not None
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._transport.abort)


class Handshake(asyncio.Protocol):
    """A connection before TLS: it counts as open, and the handshake has a time-out."""

    def __init__(self, site: Site, context: ssl.SSLContext) -> None:
        self._site, self._context = site, context
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()  # what comes next is for TLS
        self._site.opened(self, transport)
        self._task = asyncio.get_running_loop().create_task(self._shake_hands(transport))

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        request = Request(self._site)
        try:
            secure = await loop.start_tls(
                transport, request, self._context, server_side=True, ssl_handshake_timeout=REQUEST_S
            )
            if secure is not None:
                request.connection_made(secure)
        except OSError:  # ssl.SSLError and ConnectionError are, too
            transport.abort()
        finally:
            self._site.closed(self)


def _takes_gzip(accepted: bytes) -> bool:
    """Return True if the client takes gzip, and has not given it the weight 0 (RFC 9110, 12.5.3)."""
    offers = (each.replace(b" ", b"").partition(b";q=") for each in accepted.lower().split(b","))
    return any(coding == b"gzip" and (not q or weight.strip(b"0.") != b"") for coding, q, weight in offers)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value.strip()
