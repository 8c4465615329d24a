"""What is around the live view: how it is left."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support import scenes

from semtrace.commands import attach, live
from semtrace.model import SemId, Server
from semtrace.tui import app
from semtrace.tui.remembered import Order


@pytest.mark.parametrize("may", ["look", "act"])
def test_viewer_in_a_browser_writes_nothing_to_the_servers_disk(
    may: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    shown: list[app.SemtraceApp] = []

    def run(find: object, open_source: app.OpenSource, **how: object) -> int:
        shown.append(app.SemtraceApp([], list, open_source, **how))  # type: ignore[arg-type]
        return 0

    monkeypatch.setattr(app, "run", run)
    attach.run(argparse.Namespace(browser=may, pid=None, audit=None, interval=None, ascii=None))
    assert shown[0]._tools.folder is None
    assert (shown[0]._tools.release is None) == (may == "look")
    shown[0]._remembered.keep("locks", Order("NAME", False))
    assert not list(tmp_path.iterdir())


def test_release_in_progress_is_completed_before_the_view_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def releaser(audit: str | None, say: Callable[[str], object]) -> Callable[[Server, SemId], Sequence[str]]:
        def act(server: Server, semaphore: SemId) -> Sequence[str]:
            begun.set()
            assert may_end.wait(10)
            say("released it")
            return []

        return act

    monkeypatch.setattr(live, "releaser", releaser)
    with live.releasing(None) as release_it:
        threading.Thread(target=release_it, args=(scenes.server(), scenes.sem(1))).start()
        assert begun.wait(10)
        threading.Timer(0.2, may_end.set).start()
    assert "released it" in capsys.readouterr().err
