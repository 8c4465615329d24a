"""The demo as a newcomer runs it: a real gunicorn, real customers, real dumps, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import alive, start, wait_until
from support.pythons import need_host

CLONE = Path(__file__).parents[2]
STORY_S = 240.0
END_S = 60.0

pytestmark = pytest.mark.slow


class Demo:
    """A demo that keeps all its files in one folder, by which its processes are recognised too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"TMPDIR": str(folder), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}

    def processes(self) -> list[int]:
        found = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _belongs(entry, self.folder))
        return [int(entry.name) for entry in found if alive(int(entry.name))]

    def run(self, *args: str, python: str = sys.executable, path: str = "") -> subprocess.CompletedProcess[str]:
        """Without a terminal, to its end."""
        return subprocess.run(
            [python, "-m", "demo_app", *args],
            cwd=CLONE,
            env=os.environ | self.environment | ({"PYTHONPATH": path} if path else {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STORY_S,
        )

    def leaves_nothing(self) -> None:
        """A worker that gunicorn kills as the last thing it does may outlive it for a moment."""

        def left() -> list[object]:
            return [*self.processes(), *self.folder.iterdir()]

        wait_until(lambda: not left(), END_S, f"all to be gone; at first there were {left()}")


def _belongs(process: Path, folder: Path) -> bool:
    """By its environment, or, as setproctitle overwrites that, by what it has open: gunicorn's log."""
    try:
        in_environment = f"TMPDIR={folder}\0".encode() in (process / "environ").read_bytes()
        return in_environment or any(
            str(link.readlink()).startswith(f"{folder}/") for link in (process / "fd").iterdir()
        )
    except OSError:
        return False


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    yield demo
    for pid in demo.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


WORDS = {
    "shared": ["contended", "Most workers inside at once: 1.", ": 0 lost", "made before the fork"],
    "threading": ["Several workers are inside at once", "[private-lock]", "Use multiprocessing.Lock"],
    "no-preload": ["a lock that no other worker knows", "[unshared-lock]", "--preload"],
    "leak": ["contended", "gunicorn lost patience", "by nobody", ": 0 lost"],
    "deadlock": ["waits for the other's", "demo_app.mistakes.savings_lock", "[deadlock]", "in the same order"],
    "order": ["nobody ever waits", "[lock-order]", "by the order of the acquires"],
    "reentry": ["holds the lock, and waits for it", "[deadlock]", "needs an RLock"],
    "inherited": ["never gives it back", "[inherited-hold]", "while workers are forked"],
    "overrelease": ["Several workers are inside at once", "[over-release]", "Release it only then"],
    "convoy": ["contended", "the lock is never free", "[contention]", "Most workers inside at once: 1."],
}
LOSING = ("threading", "no-preload", "overrelease")
# One story has the usual length and workers; the others end as soon as their point is made.
OPTIONS = {"shared": (), "no-preload": ("--seconds", "1", "--workers", "3")}
BRIEF = ("--seconds", "1")
STORIES = ("leak", "order", "overrelease")


# The doctor's tests run each scenario; the demo around them is the same for all.
@pytest.mark.parametrize("scenario", WORDS if os.environ.get("SEMTRACE_BOTH") else STORIES)
def test_demo_without_a_terminal_prints_dumps_and_leaves_nothing(demo: Demo, scenario: str) -> None:
    done = demo.run(scenario, *OPTIONS.get(scenario, BRIEF))
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    for words in WORDS[scenario]:
        assert words in text, done.stdout
    assert (": 0 lost" in text) == (scenario not in LOSING)
    if scenario == "leak" and os.geteuid() == 0:  # the proof may need root, if other users' processes run
        assert "orphaned" in done.stdout.split("gunicorn lost patience")[1]
    if scenario == "no-preload":
        assert "3 separate locks" in done.stdout
    demo.leaves_nothing()


def test_the_tutorials_story_is_the_same_on_a_new_python(demo: Demo) -> None:
    done = demo.run("leak", *BRIEF, python=need_host("3.14"), path=str(CLONE / "src"))
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    assert all(words in text for words in WORDS["leak"]), done.stdout
    demo.leaves_nothing()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_takes_everything_down(demo: Demo, number: signal.Signals) -> None:
    with start(sys.executable, "-m", "demo_app", cwd=CLONE, env=demo.environment) as (popen, log):
        wait_until(lambda: "No customer has come yet" in log.read_text(), STORY_S, "the first dump")
        assert len(demo.processes()) >= 6
        os.killpg(popen.pid, number)
        assert popen.wait(END_S) == 128 + number
        assert "Traceback" not in log.read_text()
        demo.leaves_nothing()


def test_killed_it_takes_everything_with_it(demo: Demo) -> None:
    with start(sys.executable, "-m", "demo_app", "leak", cwd=CLONE, env=demo.environment) as (popen, log):
        wait_until(lambda: "A day like any other" in log.read_text(), STORY_S, "the first dump")
        popen.kill()
        popen.wait()
        demo.leaves_nothing()


def test_nobody_reads_on(demo: Demo) -> None:
    """`python -m demo_app | head -1`"""
    with subprocess.Popen(
        [sys.executable, "-m", "demo_app"],
        cwd=CLONE,
        env=os.environ | demo.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as popen:
        assert popen.stdout
        assert popen.stdout.readline().startswith(b"shared: ")
        popen.stdout.close()
        assert popen.stderr.read() == b""
        assert popen.wait(STORY_S) == 0
    demo.leaves_nothing()


def test_gunicorn_that_fails_to_start_is_explained_by_its_log(demo: Demo) -> None:
    broken = demo.folder / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import os, sys\nif 'gunicorn' in sys.orig_argv:\n    print('no gunicorn today', flush=True)\n    os._exit(3)\n"
    )
    demo.environment["PYTHONPATH"] += os.pathsep + str(broken)
    done = demo.run()
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["gunicorn did not start. The end of its log:", "no gunicorn today"]
    shutil.rmtree(broken)
    demo.leaves_nothing()


@pytest.mark.parametrize("arguments", [("--workers", "1"), ("nonsense",), ("--seconds", "x")])
def test_usage_that_makes_no_sense(demo: Demo, arguments: tuple[str, ...]) -> None:
    done = demo.run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


class Terminal:
    """A shell in a tmux of its own."""

    def __init__(self, demo: Demo) -> None:
        self._socket = f"semdemo-{uuid.uuid4().hex[:8]}"
        settings = [f"{name}={value}" for name, value in demo.environment.items()]
        self.tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", "-c", str(CLONE), "env", *settings, "sh"
        )

    def tmux(self, *command: str) -> str:
        done = subprocess.run(["tmux", "-L", self._socket, *command], capture_output=True, text=True, timeout=30)
        return done.stdout

    def type(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def shows(self, *words: str) -> bool:
        screen = self.tmux("capture-pane", "-p")
        return all(word in screen for word in words)

    def alternate(self) -> bool:
        return self.tmux("display-message", "-p", "#{alternate_on}").strip() == "1"

    def open_view(self, *words: str) -> None:
        """Read what it is about, and go on."""
        wait_until(lambda: self.shows("One lock, mapped by all", "Enter opens the live view"), STORY_S, "the story")
        self.type("Enter")
        wait_until(lambda: self.alternate() and self.shows(*words), STORY_S, "the live view")

    def close(self) -> None:
        self.tmux("kill-server")


@pytest.fixture
def terminal(demo: Demo) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("no tmux")
    terminal = Terminal(demo)
    yield terminal
    terminal.close()


def test_demo_on_terminal_opens_the_view_then_prints_the_moral(demo: Demo, terminal: Terminal) -> None:
    terminal.type(f"{sys.executable} -m demo_app; echo status=$?", "Enter")
    terminal.open_view("worker", "contended")
    terminal.type("i")
    wait_until(lambda: terminal.shows("this demo", "the lock works"), END_S, "the story")
    terminal.type("i", "q")
    wait_until(lambda: terminal.shows("What happened", ": 0 lost", "status=0"), END_S, "the moral")
    assert not terminal.alternate()
    wait_until(lambda: len(demo.processes()) == 1, END_S, "only the shell to be left")
    assert not list(demo.folder.iterdir())


def test_when_the_terminal_is_closed_nothing_is_left(demo: Demo, terminal: Terminal) -> None:
    terminal.type(f"{sys.executable} -m demo_app", "Enter")
    terminal.open_view("worker")
    terminal.close()
    demo.leaves_nothing()


def test_killed_beside_the_live_view_it_takes_that_with_it(demo: Demo, terminal: Terminal) -> None:
    """The view leaves its screen. The line discipline is the shell's by then: bash mends it, others need `reset`."""
    terminal.type(f"{sys.executable} -m demo_app", "Enter")
    terminal.open_view("worker")
    runner = next(pid for pid in demo.processes() if b"demo_app\0" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(runner, signal.SIGKILL)
    wait_until(lambda: len(demo.processes()) == 1, END_S, "only the shell to be left")
    wait_until(lambda: not terminal.alternate(), END_S, "the terminal to be as it was")
    assert not list(demo.folder.iterdir())
