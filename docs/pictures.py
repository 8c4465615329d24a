"""The pictures of the documents: `python docs/pictures.py [SCENARIO …]` plays each scenario of the demo under a real
gunicorn, looks at it with the real live view, and saves the screen that tells the most to docs/pictures/SCENARIO.svg.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from staging import staged  # noqa: E402

from demo_app.scenarios import SCENARIOS, Scenario  # noqa: E402
from semtrace.model import Snapshot  # noqa: E402
from semtrace.observe.acquires import acquired_at  # noqa: E402
from semtrace.observe.observer import Observer  # noqa: E402
from semtrace.observe.pyspy import take  # noqa: E402
from semtrace.servers.discovery import server_of  # noqa: E402
from semtrace.settings import Settings  # noqa: E402
from semtrace.tracing.follower import Follower  # noqa: E402
from semtrace.tui.app import SemtraceApp  # noqa: E402
from semtrace.tui.state import Tools  # noqa: E402
from semtrace.tui.terminal.saving import without_fonts  # noqa: E402

SIZE = (100, 30)
WATCHED_S = 12.0  # for a timeline and a strip that tell something
PATIENCE_S = 60.0
WORKERS = 4


class Shot(NamedTuple):
    """Which screen, by its keys, and when: a finding of that code, or for "" a lock that somebody waits for."""

    keys: tuple[str, ...]
    code: str


SHOTS = {
    "shared": Shot(("t", "z", "z"), ""),
    "threading": Shot((), "private-lock"),
    "no-preload": Shot((), "unshared-lock"),
    "leak": Shot((), "orphaned-lock"),
    "deadlock": Shot(("w",), "deadlock"),
    "order": Shot(("f",), "lock-order"),
    "reentry": Shot(("enter",), "deadlock"),
    "inherited": Shot(("f",), "inherited-hold"),
    "overrelease": Shot(("f",), "over-release"),
    "convoy": Shot(("t", "z", "z"), ""),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("scenario", nargs="*", default=list(SHOTS))
    for name in options.parse_args().scenario:
        path = ROOT / "docs" / "pictures" / f"{name}.svg"
        path.write_text(play(SCENARIOS[name], SHOTS[name]))
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1024:.0f} KB", flush=True)


def play(scenario: Scenario, shot: Shot) -> str:
    with staged(scenario, WORKERS) as pid:
        return asyncio.run(photograph(pid, shot))


async def photograph(pid: int, shot: Shot) -> str:
    server = server_of(pid)

    def stacks(processes):  # type: ignore[no-untyped-def]
        taken = take(processes)
        return taken.of, taken.problems

    app = SemtraceApp(
        [server],
        lambda: [server],
        lambda each: Observer(each, trace_source=Follower()),
        settings=Settings(),
        # The key of `release` is shown, and never pressed.
        tools=Tools(release=lambda server, lock: (), stacks=stacks, acquired_at=acquired_at),
        colours="many",
    )
    async with app.run_test(size=SIZE) as pilot:

        async def until(ready: Callable[[], bool]) -> None:
            for _ in range(int(PATIENCE_S / 0.05)):
                if ready():
                    return
                await pilot.pause(0.05)
            raise SystemExit(f"waited in vain for {shot}")

        await until(lambda: app.main is not None and _ready(app.main.snapshot, shot.code))
        await pilot.press(*shot.keys)
        if "enter" in shot.keys:
            await pilot.pause(6.0)  # the stacks are read, and the lines of the acquires
        return of_a_usual_place(without_fonts(app.export_screenshot(title="semtrace")))


def of_a_usual_place(svg: str) -> str:
    """Show paths as if the demo lay in /srv. A text keeps its length, to which it would be stretched otherwise."""

    def padded(found: re.Match[str]) -> str:
        lost = len(str(ROOT)) - len("/srv")
        return found[0].replace(str(ROOT), "/srv") + "&#160;" * lost * found[0].count(str(ROOT))

    return re.sub(r"(?<=>)[^<>]*(?=</text>)", padded, svg)


def _ready(snapshot: Snapshot | None, code: str) -> bool:
    if snapshot is None or snapshot.watched_s < WATCHED_S:
        return False
    if not code:
        return any(len(lock.waiters) > 1 and lock.holders for lock in snapshot.locks)
    return any(finding.code == code for finding in snapshot.findings)


if __name__ == "__main__":
    main()
