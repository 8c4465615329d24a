"""What is around the live view: how it is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from tui import fakes

from semtrace import mend, showing
from semtrace.model import SemId, Server


def test_a_release_that_is_under_way_is_not_left_half_done(
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

    monkeypatch.setattr(mend, "releaser", releaser)
    with showing._releasing(None) as release_it:
        threading.Thread(target=release_it, args=(fakes.server(), fakes.sem(1))).start()
        assert begun.wait(10)
        threading.Timer(0.2, may_end.set).start()
    assert "released it" in capsys.readouterr().err
