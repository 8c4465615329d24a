"""`python -m demo_app [SCENARIO]`: gunicorn, its customers, and semtrace to look at them; then all is gone again."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from demo_app.bank import Bank, State
from demo_app.load import Customers
from demo_app.prctl import die_with_parent
from demo_app.scenarios import SCENARIOS, Scenario, never
from demo_app.server import DemoError, Server, serve, wait_until

ASK_AFTER_S = 5.0
MOMENT_S = 60.0
DUMP_S = 60.0
FOUND = 3  # errors
TRIES = 20
WIDEST = 100


def main() -> int:
    options = parse()
    for module in ("semtrace", "gunicorn"):
        if importlib.util.find_spec(module) is None:
            return fail(f"The module {module} is not installed here. In the clone: pip install '.[demo]'")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        run(SCENARIOS[options.scenario], options.workers, options.seconds, options.headless or not can_draw())
    except DemoError as error:
        return fail(str(error))
    except BrokenPipeError:  # nobody reads on: `python -m demo_app | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def run(scenario: Scenario, workers: int, seconds: float, headless: bool) -> None:
    """The whole play. However it is left, each `with` takes down what it put up."""
    with tempfile.TemporaryDirectory(prefix="semtrace-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        bank = Bank.in_folder(folder)
        say(f"{scenario.name}: {scenario.title}.")
        with serve(scenario, workers, folder) as server:
            count = min(workers, scenario.customers)
            customers = Customers(server.port, count, scenario.page, scenario.hold_s, scenario.pause_s)
            try:
                if headless:
                    tell(scenario, Stage(bank, server, customers), seconds)
                else:
                    show(scenario, server, customers)
            finally:
                customers.stop()
            wait_until(lambda: not bank.look().inside, timeout_s=2.0)
            books = bank.look()
    say(f"What happened: {books}")
    say(scenario.moral)


def show(scenario: Scenario, server: Server, customers: Customers) -> None:
    """Say what there will be to see, and open semtrace on the terminal until the user leaves it."""
    say(scenario.look)
    say("Enter opens the live view. There i shows this again, ? lists the keys, and q ends the demo.")
    with contextlib.suppress(EOFError):
        input()
    # No thread runs yet, so it is safe to run Python between fork and exec.
    viewer = subprocess.Popen(
        [sys.executable, "-m", "semtrace", "attach", str(server.pid)],
        env={**os.environ, "SEMTRACE_STORY": f"{scenario.title}\n{scenario.look}\n{scenario.moral}"},
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),
    )
    try:
        customers.start()
        for page in scenario.asks:
            customers.ask(page, ASK_AFTER_S)
        status = viewer.wait()
    finally:
        end_viewer(viewer)
    if status != 0:
        raise DemoError(f"semtrace attach {server.pid} ended with status {status}.")


def end_viewer(viewer: subprocess.Popen[bytes]) -> None:
    """Ask first: it has to give the terminal back as it found it."""
    if viewer.poll() is None:
        viewer.terminate()
        try:
            viewer.wait(5)
        except subprocess.TimeoutExpired:
            viewer.kill()
            viewer.wait()


def tell(scenario: Scenario, stage: Stage, seconds: float) -> None:
    """Without a terminal: the moments worth seeing, then work until `seconds` are over and the point was made."""
    began = time.monotonic()
    scenario.tell(stage)
    stage.wait_for(lambda state: time.monotonic() - began >= seconds and scenario.shown(state), MOMENT_S + seconds)


class Stage:
    """The play told in dumps: see `scenarios.Stage`."""

    ask: Callable[[str], None]

    def __init__(self, bank: Bank, server: Server, customers: Customers) -> None:
        self._bank = bank
        self._server = server
        self.customers = customers.count
        self.let_customers_in = customers.start
        self.ask = customers.ask

    def dump(self, says: str, when: Callable[[State], bool], over: Callable[[State], bool] = never) -> State:
        """A dump takes its time; one that the play has overtaken is taken again, unless the moment is over for good."""
        for _ in range(TRIES):
            state = self.wait_for(lambda now: when(now) or over(now), MOMENT_S)
            if over(state):
                return state
            picture = semtrace(self._server.pid, "dump")
            if when(self._bank.look()):
                break
        say(says)
        print(textwrap.indent(picture, "    "), flush=True)
        return state

    def diagnose(self) -> None:
        say("And what does `semtrace doctor` say?")
        print(textwrap.indent(semtrace(self._server.pid, "doctor", may_find=True), "    "), flush=True)

    def wait_for(self, when: Callable[[State], bool], timeout_s: float) -> State:
        state = self._bank.look()

        def came() -> bool:
            nonlocal state
            state = self._bank.look()
            return when(state)

        if not wait_until(came, timeout_s):
            raise DemoError(f"The moment to show did not come within {timeout_s:.0f} s. {state}")
        return state


def semtrace(pid: int, command: str, may_find: bool = False) -> str:
    """What the command prints. The doctor ends with a status of its own when it finds an error."""
    done = subprocess.run(
        [sys.executable, "-m", "semtrace", command, str(pid)], capture_output=True, text=True, timeout=DUMP_S
    )
    if done.returncode not in ((0, FOUND) if may_find else (0,)):
        raise DemoError(f"semtrace {command} {pid} ended with status {done.returncode}.\n{done.stderr}{done.stdout}")
    return done.stdout


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m demo_app",
        description="Start a small bank under gunicorn, send it customers, and open semtrace on it.",
        epilog="scenarios:\n" + "".join(f"  {s.name:12}{s.title}\n" for s in SCENARIOS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", nargs="?", choices=SCENARIOS, default="shared", help="default: shared")
    parser.add_argument("--workers", type=at_least_two, default=4, metavar="N", help="gunicorn's workers, default 4")
    parser.add_argument(
        "--headless",
        action="store_true",
        help="print a few dumps instead of the live view; the rule without a terminal",
    )
    parser.add_argument(
        "--seconds", type=some_seconds, default=6.0, metavar="S", help="how long, when headless; default 6"
    )
    return parser.parse_args()


def some_seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError("a time in seconds, up to an hour")
    return seconds


def at_least_two(text: str) -> int:
    workers = int(text)
    if workers < 2:
        raise argparse.ArgumentTypeError("one worker has nobody to share a lock with")
    return workers


def can_draw() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def leave(number: int, frame: FrameType | None) -> NoReturn:
    """On Ctrl-C, SIGTERM or a closed terminal: unwind once, undisturbed by a second one."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def say(text: str) -> None:
    print(textwrap.fill(text, min(shutil.get_terminal_size().columns, WIDEST)), end="\n\n", flush=True)


def fail(text: str) -> int:
    print(text, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
