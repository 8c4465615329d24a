"""`semtrace record` without a server: which server it takes for the restarted one, and where that goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from support.snapshots import snapshot

from semtrace.commands import record as command
from semtrace.commands.record import Order, record
from semtrace.errors import UsageError
from semtrace.model import ProcessId, Server
from semtrace.record.asked import Asked
from semtrace.record.recorder import Wanted
from semtrace.record.successor import successors

OLD = replace(
    snapshot().server, kind="gunicorn", id=ProcessId(10, 1), user="web", application="shop:app", bind=("a:1", "b:2")
)
NEW = replace(OLD, id=ProcessId(20, 2), bind=("b:2", "a:1"), title="another", version="99")


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (NEW, True),
        (replace(NEW, user="root"), False),
        (replace(NEW, application="shop:other"), False),
        (replace(NEW, bind=("a:1",)), False),
        (replace(NEW, id=OLD.id), False),
    ],
)
def test_a_restarted_server_has_its_user_application_and_addresses(other: Server, same: bool) -> None:
    assert list(successors(OLD, [OLD, other], {OLD.id})) == ([other] if same else [])


class FakeRecorder:
    """Records a server that ends at once."""

    def __init__(self, server: Server, wanted: Wanted, file: command.File) -> None:
        self.server, self.file, self.ended, self.last = server, file, False, None
        self.reasons: list[str] = []
        self.ready: tuple[int, ...] = ()
        self.ends: list[int] = []
        self.is_empty = self.wants_events = False
        self.written = self.taken = self.unrecordable = 0

    def step(self) -> None:
        self.ended = True

    tick = step

    def store_events(self) -> None:
        pass

    def close(self) -> None:
        self.file.close()


def test_a_recorder_goes_on_with_the_restarted_server(tmp_path: Path) -> None:
    said: list[str] = []
    finds = [[], [replace(NEW, id=ProcessId(30, 3)), NEW], [NEW], [NEW]]
    (tmp_path / "x-2.semrec").touch()

    def find() -> list[Server]:
        found = finds.pop(0)
        if not finds:
            asked.stop = 15
        return found

    asked = Asked()
    gunicorn = SimpleNamespace(choose=lambda pid: OLD, gunicorns=find)
    with (
        patch.object(command, "discovery", gunicorn),
        patch.object(command, "Recorder", FakeRecorder),
        patch.object(command, "Asked", lambda: asked),
        patch.object(command, "_LOOK_AGAIN_S", 0.0),
    ):
        record(Order(tmp_path / "x.semrec", Wanted(0.001), 10, reconnect=True), said.append)
    assert [each.name for each in sorted(tmp_path.iterdir())] == ["x-2.semrec", "x-3.semrec", "x.semrec"]
    assert any("(PID 20)" in sentence and "x-3.semrec" in sentence for sentence in said)


def test_what_is_no_gunicorn_cannot_be_found_again(tmp_path: Path) -> None:
    python = replace(OLD, kind="python")
    gunicorn = SimpleNamespace(choose=lambda pid: python)
    with patch.object(command, "discovery", gunicorn), pytest.raises(UsageError, match="only a gunicorn"):
        record(Order(tmp_path / "x", Wanted(0.1), 10, reconnect=True), lambda said: None)
