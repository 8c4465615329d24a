"""The recorder that the live view starts: where its file goes, and what is said when it ends."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from support import wait_until

from semtrace.errors import SemtraceError, UsageError
from semtrace.record.child import RecorderChild, check

WAITS = "import signal, sys; print('semtrace: recording', file=sys.stderr, flush=True); signal.pause()"
ENDS = "import sys; print('semtrace: recording\\nsemtrace: the disk is full\\n  make room', file=sys.stderr)"


def started(program: str, folder: Path) -> RecorderChild:
    recorder = RecorderChild(folder)
    with patch("semtrace.record.child._PROGRAM", program):
        assert recorder.start(4321, True).startswith(f"recording to {folder}/semtrace-4321-")
    return recorder


def test_only_one_recording_at_a_time(tmp_path: Path) -> None:
    recorder = started(WAITS, tmp_path)
    assert recorder.running
    assert recorder.news() == ""
    with pytest.raises(UsageError, match="a recording is under way"):
        recorder.start(4321, False)
    assert recorder.stop()
    assert not recorder.running
    assert recorder.stop() == ""


def test_a_recorder_that_ends_by_itself_is_reported_once(tmp_path: Path) -> None:
    recorder = started(ENDS, tmp_path)
    wait_until(lambda: not recorder.running)
    assert recorder.news() == "the disk is full"
    assert recorder.news() == ""


def test_a_file_that_cannot_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(UsageError, match="is there already"):
        check(tmp_path / "x")
    with pytest.raises(UsageError, match="is not a folder"):
        check(tmp_path / "no" / "x")
    with pytest.raises(SemtraceError, match="cannot record in"):
        RecorderChild(tmp_path / "x").start(1, False)


def test_the_folder_of_recordings_is_made(tmp_path: Path) -> None:
    recorder = RecorderChild(tmp_path / "semtrace")
    with patch("subprocess.Popen"):
        assert recorder.start(4321, True).startswith(f"recording to {tmp_path}/semtrace/semtrace-4321-")
    assert (tmp_path / "semtrace").is_dir()


def test_the_command_names_server_file_and_what_to_ignore(tmp_path: Path) -> None:
    recorder = RecorderChild(tmp_path, ["app.lock"])
    with patch("subprocess.Popen") as popen:
        recorder.start(4321, True, tmp_path / "x")
    command = popen.call_args[0][0]
    assert command[:2] == [sys.executable, "-c"]
    assert command[3:] == [
        *("record", "4321", "-o", str(tmp_path / "x"), "--max-size", "1G"),
        *("--also-events", "--ignore=app.lock"),
    ]
