"""`semtrace serve` as the network sees it: who is not let in gets nothing, who is has a view without a shell."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path

import aiohttp
import pyte
import pytest
from support import PATIENCE_S, Running, alive, descendants, start_gunicorn, wait_until
from support.commands import run
from support.serving import Served, serving

from semtrace.web.complaints import MOST_LINES, Complaints
from semtrace.web.door import Door
from semtrace.web.gate import gate_for
from semtrace.web.server import MOST_SESSIONS, Site, listen, serve


@pytest.fixture(scope="module")
def gunicorn() -> Iterator[Running]:
    with start_gunicorn("seed:app", "-w", "2", "--preload") as server:
        server.wait_workers(2)
        yield server


@pytest.fixture(scope="module")
def served(gunicorn: Running) -> Iterator[Served]:
    with serving(gunicorn.pid) as one:
        yield one


class View:
    """What a page gets to see, read by pyte."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse, width: int = 80, height: int = 24) -> None:
        self.websocket = websocket
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self.screen)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    async def sees(self, *parts: str) -> None:
        async def until() -> None:
            while not all(part in self.text for part in parts):
                message = await self.websocket.receive()
                assert message.type not in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE), self.text
                if message.type is aiohttp.WSMsgType.BINARY:
                    self._stream.feed(message.data)

        try:
            await asyncio.wait_for(until(), PATIENCE_S)
        except asyncio.TimeoutError:
            raise AssertionError(f"waited in vain for {parts}; the screen:\n{self.text}") from None

    async def says(self, *message: object) -> None:
        await self.websocket.send_str(json.dumps(message))

    async def ends(self) -> None:
        async def until() -> None:
            while (await self.websocket.receive()).type not in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE):
                pass

        await asyncio.wait_for(until(), PATIENCE_S)


@contextlib.asynccontextmanager
async def view(served: Served, query: str = "?width=80&height=24") -> AsyncIterator[View]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{served.address}ws{query}", headers={"Origin": served.origin}) as websocket,
    ):
        yield View(websocket)


def play(story: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(story())


# ---- who is let in


@pytest.mark.parametrize("path", ["", "page.js", "textual.js", "xterm.css", "font.ttf"])
def test_page_and_its_files_are_served_locally_to_address_holders(served: Served, path: str) -> None:
    async def story() -> None:
        async with aiohttp.ClientSession() as session, session.get(served.address + path) as answer:
            body = await answer.read()
            assert answer.status == 200
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert answer.headers["Cache-Control"] == "no-store"
            if path in ("", "page.js"):
                assert b"http://" not in body
                assert b"https://" not in body
                assert served.token.encode() not in body

    play(story)


PLACES = ["/", "/ws", "/x/", "/x/ws", "/static/js/textual.js", "/download/x", "//", "/%2e%2e/", "/favicon.ico"]


@pytest.mark.parametrize("path", PLACES)
def test_without_the_key_nothing_is_told(served: Served, path: str) -> None:
    async def story() -> None:
        async with aiohttp.ClientSession() as session:
            for headers in ({}, {"Origin": served.origin}, {"Cookie": f"token={served.token}"}):
                async with session.get(served.origin + path, headers=headers) as answer:
                    said = await answer.text()
                    assert answer.status == 403
                    assert "open the whole address that `semtrace serve` has printed" in said
                    assert served.token not in said

    play(story)


@pytest.mark.parametrize("path", ["view_process.py", "../gate.py", "%2e%2e/gate.py", "..%2fgate.py", "ws/", "static/"])
def test_with_the_key_there_is_nothing_but_the_page(served: Served, path: str) -> None:
    async def story() -> None:
        async with aiohttp.ClientSession() as session, session.get(served.address + path) as answer:
            assert answer.status in (403, 404)
            assert b"import" not in await answer.read()

    play(story)


def refused(served: Served, **headers: str) -> int:
    """The status of an attempt to talk that is not let in."""
    status = 0

    async def story() -> None:
        nonlocal status
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(f"{served.address}ws", headers=headers)
            status = caught.value.status

    play(story)
    return status


@pytest.mark.parametrize("origin", [
    "http://evil.example",
    "http://127.0.0.1:1",
    "http://localhost.evil.example",
    "null",
    "",
])  # fmt: skip
def test_page_of_another_origin_is_refused_despite_the_key(served: Served, origin: str) -> None:
    assert refused(served, Origin=origin) == 403
    assert served.views() == []
    assert f"refused: it was asked for by a page from {origin!r}" in served.log.read_text()


def test_connection_without_an_origin_is_refused(served: Served) -> None:
    assert refused(served) == 403
    assert served.views() == []


@pytest.mark.parametrize("said", [
    b"GET {path}ws HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n",  # not a WebSocket at all
    b"GET {path}ws HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\nx",
    b"GET {path} HTTP/1.1\r\n\r\n",  # no Host
    b"GET {path} HTTP/1.0\r\nHost: {host}\r\nHost: evil.example\r\n\r\n",
    b"GET http://evil.example{path} HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\xff\r\n\r\n",  # TLS
    b"\0" * 70_000,
])  # fmt: skip
def test_what_makes_no_sense_is_answered_and_leaves_no_trace(served: Served, said: bytes) -> None:
    for name, value in (("path", f"/{served.token}/"), ("host", served.host), ("origin", served.origin)):
        said = said.replace(f"{{{name}}}".encode(), value.encode())
    place = ("127.0.0.1", int(served.host.rpartition(":")[2]))
    with contextlib.suppress(ConnectionError), socket.create_connection(place, PATIENCE_S) as connection:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert not answer or answer.split()[1] in (b"400", b"403", b"404", b"405"), answer
    assert alive(served.pid)
    assert "Traceback" not in served.log.read_text()
    assert "rror" not in served.log.read_text()


def test_request_for_a_rebound_host_name_is_refused(served: Served) -> None:
    """DNS rebinding: to the browser the page and we are of one origin then."""
    assert refused(served, Origin="http://evil.example", Host="evil.example") == 403

    async def story() -> None:
        headers = {"Host": "evil.example"}
        async with aiohttp.ClientSession() as session, session.get(served.address, headers=headers) as answer:
            assert answer.status == 403
            assert "not known under that name" in await answer.text()

    play(story)


def test_refusals_are_made_harmless_and_do_not_fill_the_log(gunicorn: Running) -> None:
    with serving(gunicorn.pid) as served:
        for number in range(30):
            refused(served, Origin=f"http://\x85evil\u202e-{number}.example")
        text = served.log.read_text()
    assert text.count("refused:") == 20
    assert "\x85" not in text
    assert "\u202e" not in text


# ---- what it is then


def test_the_view_comes_in_its_size_and_takes_keys(served: Served) -> None:
    async def story() -> None:
        async with view(served) as shown:
            await shown.sees("semtrace", "seed.lock", "q quit")
            await shown.says("stdin", "?")
            await shown.sees("Keys and signs")
            await shown.says("ping", "17")
            await shown.says("blur")
            await shown.says("focus")
            await shown.says("stdin", "\x1b")
            await shown.says("resize", {"width": 40, "height": 12})
            await shown.sees("Locks  1")
            await shown.says("stdin", "q")
            await shown.ends()

    play(story)
    wait_until(lambda: served.views() == [], what="the view's process to end")


def test_enter_opens_the_lock_without_a_click_before(served: Served) -> None:
    async def story() -> None:
        async with view(served) as shown:
            await shown.sees("seed.lock", "○ free")
            await shown.says("stdin", "\r")
            await shown.sees("Lock seed.lock")

    play(story)


def test_page_runs_without_a_shell_and_ends_with_its_process(served: Served) -> None:
    page: list[int] = []

    async def story() -> None:
        async with view(served) as shown:
            await shown.sees("seed.lock")
            (pid,) = served.views()
            # As root the view runs in a supervised child, a fork of the page's own process.
            page.extend([pid, *descendants(pid)])
            assert len(page) == (2 if os.geteuid() == 0 else 1)
            for each in page:
                command = Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")
                assert command[0].decode() == sys.executable
            assert Path(f"/proc/{pid}/environ").read_bytes().count(b"BrowserDriver") == 1

    play(story)
    wait_until(lambda: not served.views() and not any(map(alive, page)), what="the view's processes to end")


@pytest.mark.parametrize("text", [
    "x", "[]", "{}", "7", '["stdin"]', '["stdin", 7]', '["resize", {"width": "9", "height": 9}]', '["resize", []]',
    '["nonsense", 1]', "[" * 60000, '["stdin", "' + "x" * 70000 + '"]',
])  # fmt: skip
def test_nonsense_ends_the_page_and_nothing_else(served: Served, text: str) -> None:
    async def story() -> None:
        async with view(served) as shown:
            await shown.sees("seed.lock")
            await shown.websocket.send_str(text)
            await shown.ends()

    play(story)
    wait_until(lambda: served.views() == [], what="the view's process to end")
    assert alive(served.pid)
    assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize(
    "query", ["", "?width=x&height=y", "?width=1000000000&height=1000000000", "?width=-5&height=0"]
)
def test_a_size_out_of_reason_is_brought_within(served: Served, query: str) -> None:
    async def story() -> None:
        async with view(served, query) as shown:
            await shown.says("resize", {"width": 10**12, "height": -4})
            await shown.says("resize", {"width": 80, "height": 24})
            await shown.sees("seed.lock")

    play(story)


def test_so_many_views_and_no_more(served: Served) -> None:
    async def story() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(MOST_SESSIONS):
                await stack.enter_async_context(view(served))
            async with aiohttp.ClientSession() as session:
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    await session.ws_connect(f"{served.address}ws", headers={"Origin": served.origin})
                assert caught.value.status == 503

    async def one_more() -> None:
        async with view(served) as shown:
            await shown.sees("seed.lock")

    wait_until(lambda: served.views() == [], what="the views before to end")
    play(story)
    wait_until(lambda: served.views() == [], what="these views to end")
    play(one_more)


# ---- acting


def test_nobody_writes_and_nobody_acts_unless_that_was_allowed(served: Served) -> None:
    async def story() -> None:
        async with view(served) as shown:
            await shown.sees("seed.lock")
            await shown.says("stdin", "R")
            await shown.sees("this view changes nothing")
            await shown.says("stdin", "S")
            await shown.sees("nothing is saved from this view")

    play(story)


def test_allowed_it_answers_as_the_terminal_does(gunicorn: Running) -> None:
    async def story(served: Served) -> None:
        async with view(served) as shown:
            await shown.sees("seed.lock")
            await shown.says("stdin", "R")
            await shown.sees("only an orphaned lock can be released")

    with serving(gunicorn.pid, "--allow-release", "--ascii") as served:
        assert "release orphaned locks" in served.log.read_text()
        asyncio.run(story(served))


# ---- beginning and end


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_with_all_its_views(gunicorn: Running, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "semtrace", "serve", "--port", "0", str(gunicorn.pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as popen:
        assert popen.stdout
        served = Served(popen.pid, Path("/dev/null"), popen.stdout.readline().strip())

        async def story() -> None:
            async with view(served) as shown:
                await shown.sees("seed.lock")
                views.extend(served.views())
                popen.send_signal(number)
                await shown.ends()

        views: list[int] = []
        play(story)
        assert popen.wait(PATIENCE_S) == code
        assert popen.stderr
        assert popen.stderr.read() == ""
    assert len(views) == 1
    wait_until(lambda: not any(map(alive, views)), what="the views to end")


def test_killed_it_leaves_no_view_behind(gunicorn: Running) -> None:
    async def story(served: Served) -> None:
        async with view(served) as shown:
            await shown.sees("seed.lock")
            views.extend(served.views())
            os.kill(served.pid, signal.SIGKILL)
            await shown.ends()

    views: list[int] = []
    with serving(gunicorn.pid) as served:
        asyncio.run(story(served))
        assert len(views) == 1
        wait_until(lambda: not any(map(alive, views)), what="the view to notice")


def test_first_line_is_the_address_and_the_second_its_permissions(served: Served) -> None:
    address, second, third = served.log.read_text().splitlines()[:3]
    assert address == served.address
    assert address.startswith("http://127.0.0.1:")
    assert (
        second == "  Anyone who has this address can watch; nobody can act (--allow-release lets them). Ctrl-C ends it."
    )
    assert f"ssh -L {served.host.rpartition(':')[2]}:127.0.0.1:" in third


def test_on_the_network_it_warns() -> None:
    with start_gunicorn("seed:app", "-w", "1") as server, serving(server.pid, "--host", "0.0.0.0") as served:
        assert "It is not encrypted" in served.log.read_text()


def test_what_cannot_be_is_said_before_it_listens(tmp_path: Path, gunicorn: Running) -> None:
    assert run("serve", 2**22 - 1).returncode == 5
    assert run("serve", "--port", "65536").returncode == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", gunicorn.pid, "--port", taken.getsockname()[1])
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"semtrace: cannot listen on 127.0.0.1 port {taken_port(done.stderr)}: Address already in use",
        "  --port 0 takes any free one",
    ]
    done = run("serve", gunicorn.pid, "--host", "no.such.host.invalid")
    assert (done.returncode, done.stderr.count("\n")) == (1, 2)
    settings = tmp_path / "semtrace" / "config.toml"
    settings.parent.mkdir()
    settings.write_text("nonsense = 1\n")
    assert run("serve", gunicorn.pid, XDG_CONFIG_HOME=str(tmp_path)).returncode == 2


def taken_port(text: str) -> str:
    return text.partition(" port ")[2].partition(":")[0]


def test_without_the_extra_it_says_how_to_get_it(gunicorn: Running) -> None:
    program = (
        "import sys; sys.modules['textual_serve'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'textual_serve' else find(name, *a)\n"
        f"from semtrace.cli import main; sys.exit(main(['serve', '{gunicorn.pid}']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "semtrace: serve needs the package textual-serve",
        "  pip install 'semtrace[serve]'",
    ]


# ---- who says nothing


def test_half_sent_requests_keep_nobody_out_and_fill_no_log(served: Served) -> None:
    host, _, port = served.host.rpartition(":")
    crowd = []
    try:
        early = socket.create_connection((host, int(port)), PATIENCE_S)  # from far away: its request is still to come
        crowd.append(early)
        for _ in range(600):
            stranger = socket.create_connection((host, int(port)), PATIENCE_S)
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: x")
            crowd.append(stranger)

        path = served.address.removeprefix(served.origin)
        early.sendall(f"GET {path} HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode())
        assert early.recv(64).startswith(b"HTTP/1.1 200")

        async def story() -> None:
            async with aiohttp.ClientSession() as session, session.get(served.address) as answer:
                assert answer.status == 200
            async with view(served) as shown:
                await shown.sees("gunicorn")

        play(story)
    finally:
        for stranger in crowd:
            stranger.close()
    assert served.log.stat().st_size < 20_000


@contextlib.asynccontextmanager
async def served_behind(door: Door) -> AsyncIterator[tuple[str, int]]:
    """Serve in this process behind a door of its own: the address. SIGTERM ends it."""
    site = Site(gate_for("127.0.0.1"), (), print)
    site.door = door
    with listen("127.0.0.1", 0) as listening:
        ready = asyncio.Event()
        server = asyncio.create_task(serve(site, listening, ready.set))
        await ready.wait()
        yield listening.getsockname()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await server == 143


def test_oldest_stranger_makes_room_for_the_newest() -> None:
    async def story() -> None:
        async with served_behind(Door(most=2)) as address:
            crowd = [await asyncio.open_connection(*address) for _ in range(3)]
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(crowd[0][0].read(), PATIENCE_S) == b""
            crowd[1][1].write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert (await asyncio.wait_for(crowd[1][0].read(), PATIENCE_S)).startswith(b"HTTP/1.1 403")
            for _, writer in crowd:
                writer.close()

    play(story)


def test_complaints_are_cleaned_and_few() -> None:
    said: list[str] = []
    now = [0.0]
    complaints = Complaints(said.append, lambda: now[0])
    for number in range(1000):
        complaints.lines(f"line {number}\nand another")
    assert len(said) == MOST_LINES + 1
    assert said[-1] == "further lines are dropped until the next minute"
    now[0] = 61.0
    complaints.lines("later")
    assert said[-1] == "later"


def test_connection_without_the_key_ends_by_itself() -> None:
    async def story() -> None:
        async with served_behind(Door(patience_s=0.2)) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET / HT")
            # aiohttp itself would end one that says nothing at all, but only after 5 s.
            assert await asyncio.wait_for(reader.read(), 4.0) == b""
            writer.close()

    play(story)
