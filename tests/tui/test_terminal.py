"""The application in real terminals: tmux, and a pty that pyte reads with its attributes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest
from rich.color import Color, ColorSystem
from support import PATIENCE_S, alive, wait_until

from semtrace.tui.terminal.palette import style

TESTS = Path(__file__).resolve().parents[1]
PROGRAM = Path(__file__).with_name("program.py")
ENVIRONMENT = {"PYTHONPATH": f"{TESTS.parent / 'src'}:{TESTS}", "LANG": "C.UTF-8"}


class Tmux:
    """A tmux server of our own, with one window in which the program runs."""

    def __init__(self, directory: Path, scene: str, redirected: str = "") -> None:
        self._socket = str(directory / "tmux")
        self._pid_file = directory / "pid"
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in ENVIRONMENT.items())
        command = f"{variables} {sys.executable} {PROGRAM} {scene} {self._pid_file} {redirected}; exec cat"
        self("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command)

    def __call__(self, *arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name not in ("TMUX", "NO_COLOR")}
        done = subprocess.run(
            ["tmux", "-S", self._socket, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def text(self) -> str:
        return self("capture-pane", "-p")

    @property
    def program(self) -> int:
        return int(self._pid_file.read_text())

    def press(self, *keys: str) -> None:
        self("send-keys", *keys)

    def sees(self, *parts: str) -> None:
        try:
            wait_until(lambda: all(part in self.text for part in parts), what=f"{parts} on the screen")
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen:\n{self.text}") from None

    def modes(self) -> str:
        """The alternate screen, the cursor, the mouse: `0 1 0` is a terminal as a shell wants it."""
        return self("display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag}").strip()

    def close(self) -> None:
        program = int(self._pid_file.read_text() or 0) if self._pid_file.exists() else 0
        with contextlib.suppress(AssertionError):
            self("kill-server")
        wait_until(lambda: not (program and alive(program)), what="the end of the program")


@pytest.fixture
def tmux(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    terminal = Tmux(tmp_path, getattr(request, "param", "states"))
    try:
        terminal.sees("◐ contended")
        yield terminal
    finally:
        terminal.close()


def test_keys_work_in_a_real_terminal(tmux: Tmux) -> None:
    tmux.press("j", "j")
    tmux.sees("myapp.lock is held by 4711")
    tmux.press("s", "s")
    tmux.sees("NAME▲")
    tmux.press("r")
    tmux.sees("NAME▼")
    tmux.press("/", "c", "a", "c")
    tmux.sees("1 of 6", "cache_lock")
    tmux.press("Escape")
    tmux.sees("0:27:106")
    tmux.press("Space")
    tmux.sees("PAUSED")
    tmux.press("Space", "+")
    tmux.sees("every 0.5s")
    tmux.press("?")
    tmux.sees("Keys and signs")
    tmux.press("Escape")
    tmux.sees("Locks  6")
    tmux.press("Tab", "Down", "Enter")
    tmux.sees("Worker 4711", "child of 4710")


@pytest.mark.parametrize("tmux", ["crowd"], indirect=True)
def test_the_window_can_be_resized_at_any_moment(tmux: Tmux) -> None:
    tmux("resize-window", "-x", "160", "-y", "45")
    tmux.sees("THREADS", "myapp.lock_15")
    tmux("resize-window", "-x", "20", "-y", "5")
    tmux.sees("terminal too small")
    tmux("resize-window", "-x", "40", "-y", "12")
    tmux.sees("◐ contended", "q quit")


@pytest.mark.parametrize("key", ["q", "C-c"])
def test_leaving_restores_the_terminal(tmux: Tmux, key: str) -> None:
    assert tmux.modes().startswith("1 0")
    tmux.press(key)
    tmux.sees("ended 0")
    assert tmux.modes() == "0 1 0"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal(tmux: Tmux, number: signal.Signals) -> None:
    os.kill(tmux.program, number)
    tmux.sees(f"ended {128 + number}")
    assert tmux.modes() == "0 1 0"


def test_redirected_errors_leave_the_view_on_the_terminal(tmp_path: Path) -> None:
    terminal = Tmux(tmp_path, "states", "2>/dev/null")
    try:
        terminal.sees("◐ contended")
        terminal.press("q")
        terminal.sees("ended 0")
    finally:
        terminal.close()


def test_a_terminal_that_is_closed_ends_it(tmux: Tmux) -> None:
    program = tmux.program
    tmux.close()
    wait_until(lambda: not alive(program), what="the end of the program")


class Pty:
    """The program in a pty whose screen pyte keeps."""

    def __init__(self, directory: Path, **variables: str) -> None:
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLORTERM")}
        command = [sys.executable, str(PROGRAM), "states", str(directory / "pid")]
        self._process = subprocess.Popen(
            command, stdin=follower, stdout=follower, stderr=follower, env=environment | ENVIRONMENT | variables
        )
        os.close(follower)
        self._leader = leader
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)

    def hang_up(self) -> int:
        """Close the terminal, which controls no session and so sends no signal; return the exit code."""
        os.close(self._leader)
        self._leader = -1
        return self._process.wait(PATIENCE_S)

    def sees(self, part: str) -> None:
        self.until(lambda: part in "\n".join(self.screen.display), f"{part} on the screen")

    def until(self, condition: Callable[[], object], what: str) -> None:
        """A key may change several places, which need not be drawn at once."""
        wait_until(lambda: self._read() and condition(), what=what)

    def reverses(self, part: str) -> None:
        self.until(lambda: any(part in line for line in self.reversed_lines()), f"{part} in a line that is reversed")

    def press(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    def colours(self) -> set[str]:
        cells = [cell for row in self.screen.buffer.values() for cell in row.values()]
        return {cell.fg for cell in cells} | {cell.bg for cell in cells}

    def unreadable(self) -> list[str]:
        """Signs in the colour of what is behind them."""
        cells = [cell for row in self.screen.buffer.values() for cell in row.values()]
        return [cell.data for cell in cells if cell.data.isalnum() and cell.fg == cell.bg != "default"]

    def line(self, part: str) -> int:
        return next(y for y, text in enumerate(self.screen.display) if part in text)

    def looks(self, y: int) -> set[tuple[str, bool]]:
        """What is behind the cells of that line, and whether they are reversed."""
        return {(cell.bg, cell.reverse) for cell in (self.screen.buffer[y][x] for x in range(80))}

    def reversed_lines(self) -> list[str]:
        return [
            text.rstrip()
            for y, text in enumerate(self.screen.display)
            if all(self.screen.buffer[y][x].reverse for x in range(80))
        ]

    def close(self) -> None:
        self._process.terminate()
        while self._process.poll() is None:
            self._read()
        if self._leader >= 0:
            os.close(self._leader)

    def _read(self) -> bool:
        """What has arrived; pyte 0.8.2 takes `CSI > u` and `CSI < u` of the Kitty keyboard protocol for its own `u`."""
        while select.select([self._leader], [], [], 0.02)[0]:
            try:
                data = os.read(self._leader, 65536)
            except OSError:  # EIO: the other side is closed
                return True
            self._stream.feed(data)
        return True


def test_terminal_that_is_closed_without_a_signal_ends_it(tmp_path: Path) -> None:
    terminal = Pty(tmp_path)
    try:
        terminal.sees("contended")
        assert terminal.hang_up() != 0
    finally:
        terminal.close()


@pytest.fixture
def in_pty(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pty]:
    terminal = Pty(tmp_path, TERM="xterm-256color", **getattr(request, "param", {}))
    try:
        terminal.sees("contended")
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize("in_pty", [{"NO_COLOR": "1"}, {"NO_COLOR": "1", "COLORTERM": "truecolor"}], indirect=True)
def test_no_color_means_no_colour_at_all(in_pty: Pty) -> None:
    assert in_pty.colours() == {"default"}
    in_pty.reverses("orphaned")
    in_pty.press("j")
    in_pty.sees("myapp.cache_lock is held")
    in_pty.reverses("cache_lock")
    in_pty.press("?")
    in_pty.sees("Keys and signs")
    assert in_pty.colours() == {"default"}
    in_pty.press("q")
    in_pty.sees("Locks  6")
    in_pty.press("/")
    in_pty.sees("text anywhere")
    assert in_pty.colours() == {"default"}


@pytest.mark.parametrize("variables", [{"TERM": "linux"}, {"TERM": "xterm"}, {"TERM": "xterm-256color"}])
def test_cursor_and_its_row_are_visible_with_few_colours(tmp_path: Path, variables: dict[str, str]) -> None:
    terminal = Pty(tmp_path, **variables)
    try:
        terminal.sees("orphaned")
        terminal.press("j")
        terminal.sees("myapp.cache_lock is held")
        on, off = terminal.line("● held"), terminal.line("◐ contended  ")
        terminal.until(lambda: terminal.looks(on).isdisjoint(terminal.looks(off)), "the cursor in every cell")
        assert not terminal.unreadable()
        if variables["TERM"] != "xterm-256color":
            terminal.reverses("cache_lock")
            assert "brightblack" not in terminal.colours(), "which is the grey of nothing on such a terminal"
            terminal.until(lambda: {"red", "green"} <= terminal.colours(), "the colours")
        terminal.press(":")
        terminal.sees("the keys and the signs")
        terminal.until(lambda: not terminal.unreadable(), "all signs in another colour than what is behind them")
    finally:
        terminal.close()


@pytest.mark.parametrize("in_pty", [{"NO_COLOR": "1"}], indirect=True)
def test_without_colour_the_palette_shows_where_its_cursor_is(in_pty: Pty) -> None:
    in_pty.press(":")
    in_pty.sees("the keys and the signs")
    in_pty.press("\x1b[B")
    in_pty.until(lambda: "settings" in underlined(in_pty), "the cursor")
    in_pty.until(lambda: "findings" not in underlined(in_pty), "nothing but the cursor")
    in_pty.press("\x1b[B")
    in_pty.until(lambda: "findings" in underlined(in_pty), "another command")
    in_pty.until(lambda: "settings" not in underlined(in_pty), "nothing but the cursor")


def underlined(terminal: Pty) -> str:
    return "".join(cell.data for row in terminal.screen.buffer.values() for cell in row.values() if cell.underscore)


def test_a_terminal_that_takes_ascii_alone_gets_it(tmp_path: Path) -> None:
    terminal = Pty(tmp_path, TERM="xterm-256color", LC_ALL="POSIX", PYTHONUTF8="0")
    try:
        terminal.sees("% contended")
        assert all(line.isascii() for line in terminal.screen.display)
        assert "\\u" not in "".join(terminal.screen.display)
    finally:
        terminal.close()


def test_each_of_256_colours_is_chosen_exactly_and_grounds_differ() -> None:
    grounds = set()
    for name in ("", "bar", "mark", "cursor", "cursor.blur", "banner", "dim", "held", "contended", "orphaned", "old"):
        look = style(name, "some")
        for each in filter(None, (look.color, look.bgcolor)):
            assert _distance(each.downgrade(ColorSystem.EIGHT_BIT), each) < 36, name
        grounds.add(look.bgcolor and look.bgcolor.downgrade(ColorSystem.EIGHT_BIT).number)
    assert len(grounds) == 6
    assert style("waiting", "some").color == style("contended", "some").color == style("hot", "some").color


def _distance(one: Color, other: Color) -> int:
    return sum(abs(a - b) for a, b in zip(one.get_truecolor(), other.get_truecolor(), strict=True))


@pytest.mark.parametrize("in_pty", [{"COLORTERM": "truecolor"}], indirect=True)
def test_states_have_their_colours(in_pty: Pty) -> None:
    in_pty.until(lambda: {"ff6b6b", "7cc48a", "e8b45a"} <= in_pty.colours(), "the colours")


def test_on_a_slow_terminal_a_key_shows_after_few_bytes(tmp_path: Path) -> None:
    """At 20 KB a second pictures of 64 workers are more than it takes: what is drawn is the newest, and nothing waits
    in a queue before the answer to a key."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 45, 160, 0, 0))
    environment = {**os.environ, **ENVIRONMENT, "TERM": "xterm-256color"}
    command = [sys.executable, str(PROGRAM), "crowd", str(tmp_path / "pid")]
    program = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    try:
        assert b"Locks" in slowly(leader, b"Locks", 2_000_000)
        slowly(leader, b"\0never", 150_000)  # seconds of falling behind
        os.write(leader, b"?")
        seen = slowly(leader, b"Keys and signs", 2_000_000)
        assert b"Keys and signs" in seen
        assert len(seen) < 90_000, "frames were queued before it"
    finally:
        program.terminate()
        slowly(leader, b"\0never", 2_000_000)
        program.wait(PATIENCE_S)
        os.close(leader)


def slowly(leader: int, wanted: bytes, most: int) -> bytes:
    """Reads as a terminal behind a thin line does, until that is there, so many bytes have come, or all is over."""
    seen = b""
    while wanted not in seen and len(seen) < most and select.select([leader], [], [], PATIENCE_S)[0]:
        try:
            seen += os.read(leader, 1024)
        except OSError:  # EIO: the other side is closed
            break
        select.select([], [], [], 0.05)
    return seen
