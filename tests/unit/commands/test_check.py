"""`semtrace check`: one line and an exit code."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import snapshots

from semtrace import cli
from semtrace.commands import check
from semtrace.errors import NoServer
from semtrace.model import Problem, Server, Snapshot
from semtrace.rules import Limits, with_findings
from semtrace.rules.headline import headline

BLIND = tuple(Problem("read", "refused", "sudo", process.id) for process in snapshots.processes())


def judged(snapshot: Snapshot) -> tuple[str, int]:
    found = with_findings(snapshot)
    return headline(found).verdict, check._exit_code(headline(found), found)


@pytest.mark.parametrize(
    ("snapshot", "verdict", "code"),
    [
        (snapshots.snapshot(), "ok", 0),
        (snapshots.snapshot(*snapshots.embrace()), "deadlock", 3),
        (snapshots.snapshot(snapshots.lock(state="orphaned", value=0)), "orphaned", 3),
        (
            snapshots.snapshot(
                thread_locks=(snapshots.thread_lock(locked=(11, 12), overlap=snapshots.overlap(11, 12)),)
            ),
            "error",
            0,
        ),
        (snapshots.snapshot(problems=BLIND), "unknown", 4),
    ],
)
def test_exit_code_follows_from_what_is_found(snapshot: Snapshot, verdict: str, code: int) -> None:
    assert judged(snapshot) == (verdict, code)


def test_worst_of_several_servers_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {10: snapshots.snapshot(), 20: snapshots.snapshot(*snapshots.embrace())}
    servers = [replace(snapshots.SERVER, id=snapshots.pid(number)) for number in found]
    monkeypatch.setattr(check.discovery, "gunicorns", lambda: servers)

    def answer(server: object, limits: Limits) -> check.Answer:
        shown = with_findings(found[server.pid])  # type: ignore[attr-defined]
        return check.Answer(server, headline(shown), check._exit_code(headline(shown), shown))  # type: ignore[arg-type]

    monkeypatch.setattr(check, "answer_for", answer)
    line, code = check.check(None, Limits())
    assert code == 3
    assert line.startswith("DEADLOCK: ")
    assert line.endswith("(PID 20; 1 of 2 servers are fine)")


def test_servers_that_end_while_others_are_checked_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = [replace(snapshots.SERVER, id=snapshots.pid(number)) for number in (10, 20, 30)]
    monkeypatch.setattr(check.discovery, "gunicorns", lambda: servers)
    alive = {20}

    def answer(server: Server, limits: Limits) -> check.Answer:
        if server.pid not in alive:
            raise NoServer(f"process {server.pid} has ended", "")
        return check.Answer(server, headline(with_findings(snapshots.snapshot())), 0)

    monkeypatch.setattr(check, "answer_for", answer)
    line, code = check.check(None, Limits())
    assert (line.partition(":")[0], code) == ("OK", 0)
    alive.clear()
    for found in (servers, servers[:1]):
        monkeypatch.setattr(check.discovery, "gunicorns", lambda found=found: found)
        with pytest.raises(NoServer, match="no gunicorn"):
            check.check(None, Limits())


def test_process_that_is_not_there_is_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "4194305"]) == 5
    assert capsys.readouterr().out == ""
