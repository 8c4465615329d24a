"""What a repair decides and says, without a server."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from semtrace.errors import NoServer, NotPermitted, Refused, SemtraceError, UsageError
from semtrace.linux.post import Word
from semtrace.model import Holder, Lock, LockState, Problem, ProcessId, SemId, Server, Snapshot, Waiter
from semtrace.repairs import repair, report
from semtrace.repairs.audit import Audit, release_act, release_intent
from semtrace.repairs.dead_state_files import SetRight
from semtrace.repairs.repair import Released

ME, OTHER, THIRD = ProcessId(4001, 1), ProcessId(4002, 1), ProcessId(4003, 1)
ORPHAN = Lock(
    SemId(0, 27, 7),
    "Lock",
    "orphaned",
    0,
    1,
    name="myapp.lock",
    names=("myapp.lock", "myapp.other"),
    shm_name="/mp-abc",
    waiters=(Waiter(OTHER, 4002, 12.0), Waiter(THIRD, 4103)),
    mapped_by=(ME, OTHER, THIRD),
    reason="locked in 65 readings over 0.4 s",
)


def _lock(inode: int, **changes: object) -> Lock:
    return replace(ORPHAN, id=SemId(0, 27, inode), **changes)  # type: ignore[arg-type]


def _snapshot(*locks: Lock, problems: tuple[Problem, ...] = (), alive: bool = True) -> Snapshot:
    return Snapshot(Server("python", ME, "app", 0.0, "alice"), 0.0, 0.0, (), locks, problems=problems, alive=alive)


class Searching:
    """Imitates an observer whose proof waits for the search of memory for so long, and another second for the rest."""

    server = Server("python", ME, "app", 0.0, "alice")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, search_s: float) -> None:
        self.now_s, self._search_s = 100.0, search_s
        times = SimpleNamespace(monotonic=lambda: self.now_s, sleep=lambda _: None)
        monkeypatch.setattr(repair, "time", times)

    def snapshot(self) -> Snapshot:
        self.now_s += 0.5
        proved = self.now_s > 101.0 + self._search_s
        return _snapshot(ORPHAN if proved else replace(ORPHAN, state="unknown"))

    def is_searching(self, semaphore: SemId) -> bool:
        return self.now_s <= 100.0 + self._search_s

    def undecided(self) -> bool:
        return True

    def unread(self) -> bool:
        return False

    def obstacle(self, semaphore: SemId) -> None:
        """Nobody else maps it."""


def test_release_waits_until_large_memory_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    observer = Searching(monkeypatch, search_s=5 * repair.PATIENCE_S)
    assert repair.choose(observer, str(ORPHAN.id)) is ORPHAN  # type: ignore[arg-type]


def test_release_does_not_wait_for_a_search_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    observer = Searching(monkeypatch, search_s=1e6)
    with pytest.raises(Refused):
        repair.choose(observer, str(ORPHAN.id))  # type: ignore[arg-type]
    assert observer.now_s < 102.0 + repair.SEARCH_S + repair.PATIENCE_S


# -- which lock


@pytest.mark.parametrize("which", ["0:27:7", "myapp.lock", "myapp.other", "/mp-abc"])
def test_lock_is_found_by_its_id_and_every_name(which: str) -> None:
    other = _lock(8, name="myapp.b", names=("myapp.b",), shm_name=None)
    assert repair.find([other, ORPHAN], which, 4001) is ORPHAN


def test_ambiguous_name_lists_ids_mappers_and_the_command() -> None:
    free = _lock(6, state="free", mapped_by=(THIRD, OTHER))
    with pytest.raises(UsageError, match=r"2 separate locks are called myapp\.lock") as caught:
        repair.find([free, ORPHAN], "myapp.lock", 4001)
    assert [line.strip() for line in caught.value.remedy.splitlines()] == [
        "0:27:7  orphaned, mapped by PID 4001 4002 4003",
        "0:27:6  free, mapped by PID 4002 4003",
        "give the id of one: semtrace release 4001 0:27:7",
    ]


def test_an_unknown_name_lists_the_locks_but_not_the_signals() -> None:
    signal = _lock(8, name="myapp.cond._sleeping_count", names=(), signal=True)
    with pytest.raises(UsageError) as caught:
        repair.find([ORPHAN, signal], "nope", 4001)
    assert "myapp.lock [0:27:7] (orphaned)" in caught.value.remedy
    assert "_sleeping_count" not in caught.value.remedy


def test_a_part_of_a_name_is_no_name() -> None:
    with pytest.raises(UsageError):
        repair.find([ORPHAN], "lock", 4001)


# -- whether it may be released


def test_only_what_is_orphaned_may_be_released() -> None:
    assert repair.why_not(ORPHAN, _snapshot(ORPHAN)) is None
    states: tuple[LockState, ...] = ("free", "held", "contended", "exhausted", "unknown")
    for state in states:
        refusal = repair.why_not(replace(ORPHAN, state=state), _snapshot(ORPHAN))
        assert isinstance(refusal, Refused | NotPermitted), state
        assert f"it is {state}" in str(refusal)


def test_the_refusal_names_the_holder() -> None:
    held = replace(ORPHAN, state="held", holders=(Holder(OTHER, 4002, 1),), reason=None)
    assert "it is held, held by 4002" in str(repair.why_not(held, _snapshot(held)))


def test_what_cannot_be_read_asks_for_the_right() -> None:
    unknown = replace(ORPHAN, state="unknown")
    problem = Problem("read its memory", "Permission denied", "sudo", OTHER)
    refusal = repair.why_not(unknown, _snapshot(unknown, problems=(problem,)))
    assert isinstance(refusal, NotPermitted)


def test_of_a_server_that_has_ended_nothing_is_released() -> None:
    assert isinstance(repair.why_not(ORPHAN, _snapshot(ORPHAN, alive=False)), NoServer)


def test_more_units_than_the_kernel_sets_at_once_are_refused() -> None:
    assert isinstance(repair.why_not(replace(ORPHAN, maximum=5000), _snapshot(ORPHAN)), Refused)


# -- what it says


def test_evidence_has_the_reason_the_waiters_and_the_plan() -> None:
    text = "\n".join([*report.evidence(ORPHAN), *report.not_done(4001, ORPHAN, "/var/log/a b")])
    assert "locked in 65 readings over 0.4 s" in text
    assert "PID 4002 has waited for at least 12s" in text
    assert "PID 4003 thread 4103 waits" in text
    assert "mapped by PID 4001 4002 4003" in text
    assert "sets its value from 0 to 1, so the first of 2 waiters can continue" in text
    assert text.endswith("semtrace release 4001 myapp.lock --yes --audit '/var/log/a b'")


def test_one_of_several_locks_of_a_name_needs_its_id() -> None:
    assert "release 4001 0:27:7 --yes" in "\n".join(report.not_done(4001, replace(ORPHAN, separate=3), None))


def _released(**changes: object) -> Released:
    now = replace(ORPHAN, state="contended", waiters=ORPHAN.waiters[1:], holders=(Holder(OTHER, 4002, 1),))
    plain = Released(ORPHAN, 1, Word(0, 2), Word(0, 1), 1, True, 0.0, ORPHAN.waiters[:1], now)
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_the_outcome_tells_who_got_on() -> None:
    text = "\n".join(report.outcome(_released()))
    assert "Released myapp.lock: value 0 -> 1; 2 threads were waiting for it." in text
    assert "PID 4002 continued after at least 12s" in text
    assert "now: contended, value 0, 1 still wait" in text
    assert "millisecond" not in text


def test_the_outcome_hides_no_doubt() -> None:
    nobody = "\n".join(report.outcome(_released(got_on=(), still=False, now=replace(ORPHAN, state="unknown"))))
    assert "no waiter was seen to continue within 2 s" in nobody
    assert "the last sample was a millisecond old" in nobody
    assert "the server has ended" in "\n".join(report.outcome(_released(now=None)))


def test_acquirer_that_died_at_once_is_named_only_if_unambiguous() -> None:
    def said(*ended: ProcessId, state: LockState = "orphaned") -> str:
        now = replace(ORPHAN, state=state)
        return "\n".join(report.outcome(_released(got_on=(), now=now, ended=ended)))

    assert "PID 4002 acquired it and died at once: the lock is orphaned again" in said(OTHER)
    assert "a process acquired it and died at once (ended since: PID 4002 4003)" in said(THIRD, OTHER)
    assert "a process acquired it and died at once: the lock is orphaned again" in said()
    not_proved = said(OTHER, state="unknown")
    assert "no waiter was seen to continue" in not_proved
    assert "PID 4002 has ended since; it may have acquired the lock" in not_proved
    assert "at once" not in not_proved


# -- what is written down


def test_act_is_printed_and_appended_as_a_json_line(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "audit"
    for _ in range(2):
        with Audit(str(path), said.append) as audit:
            audit.write(release_act(4001, _released()))
    assert len(said) == 2
    assert "released myapp.lock [0:27:7] of PID 4001: value 0 -> 1, 2 waiters, 1 woken" in said[0]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0]["before"] == {"value": 0, "waiters": 2}
    assert lines[0]["after"] == {"value": 0, "waiters": 1, "set_to": 1, "woken": 1}
    assert {"time", "user", "act", "pid", "lock", "name", "evidence"} < lines[0].keys()


def test_what_cannot_be_said_is_written_down_all_the_same(tmp_path: Path) -> None:
    def refused(sentence: str) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "audit"
    with Audit(str(path), refused) as audit:
        audit.write(release_act(4001, _released()))
        audit.call_off(release_intent(4001, ORPHAN), KeyboardInterrupt())
    done, not_done = [json.loads(line) for line in path.read_text().splitlines()]
    assert (done["stage"], not_done["stage"], not_done["why"]) == ("done", "not done", "interrupted")


def test_without_a_file_it_is_only_said() -> None:
    said: list[str] = []
    with Audit(None, said.append) as audit:
        audit.write(release_act(4001, _released()))
    assert said


def test_audit_file_that_cannot_be_opened_is_an_early_error(tmp_path: Path) -> None:
    with pytest.raises(SemtraceError, match="cannot open the audit file"):
        Audit(str(tmp_path), print)


def test_what_is_intended_is_written_before_and_said_to_nobody(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "audit"
    with Audit(str(path), said.append) as audit:
        audit.intend(release_intent(4001, ORPHAN))
        (line,) = [json.loads(line) for line in path.read_text().splitlines()]
        audit.call_off(release_intent(4001, ORPHAN), Refused("it has just changed"))
    assert not said
    assert (line["stage"], line["act"], line["lock"]) == ("about to", "release", "0:27:7")
    last = json.loads(path.read_text().splitlines()[1])
    assert (last["stage"], last["why"]) == ("not done", "it has just changed")


@contextlib.contextmanager
def _taking(size: int) -> Iterator[None]:
    """No file takes more bytes than so many."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_audit_file_refusing_the_intent_is_an_error_with_remedy(tmp_path: Path) -> None:
    with (
        Audit(str(tmp_path / "audit"), print) as audit,
        _taking(0),
        pytest.raises(SemtraceError, match="File too large") as caught,
    ):
        audit.intend(release_intent(4001, ORPHAN))
    assert (caught.value.exit_code, "nothing was done" in caught.value.remedy) == (1, True)


def test_name_that_a_terminal_would_obey_is_in_no_command() -> None:
    hostile = replace(ORPHAN, name="x\x1b]0;mine\x07\x1b[2A", separate=1)
    told = "\n".join(report.not_done(4001, hostile, None))
    assert told.endswith("semtrace release 4001 0:27:7 --yes")


def test_what_was_said_of_the_dead_is_told() -> None:
    told = "\n".join(report.outcome(_released(set_right=(SetRight(THIRD), SetRight(OTHER, "Read-only")))))
    assert "PID 4003, which died, is no longer recorded as holding it" in told
    assert "note: PID 4002, which died, stays recorded as holding it: Read-only" in told


def test_audit_file_that_takes_nothing_is_an_error_after_printing(tmp_path: Path) -> None:
    said: list[str] = []
    with Audit(str(tmp_path / "audit"), said.append) as audit, _taking(0), pytest.raises(SemtraceError, match="done"):
        audit.write(release_act(4001, _released()))
    assert said


def test_audit_file_never_keeps_a_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    path.write_text('{"whole": 1}\n{"cut sh')
    with Audit(str(path), print) as audit, _taking(60), pytest.raises(SemtraceError, match="only a part"):
        audit.intend(release_intent(4001, ORPHAN))
    assert path.read_text() == '{"whole": 1}\n'
