"""The page that `semtrace export` makes: as a browser draws it, and how large it becomes."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support.recordings import contended, exported, file, traced_bytes

from semtrace.record.chunks import encode
from semtrace.record.eventlog import event_chunks


def test_a_page_of_ten_busy_minutes_is_below_a_megabyte(tmp_path: Path) -> None:
    several = [replace(each, monotonic_s=100.0 + number * 0.6) for number, each in enumerate(contended(1000))]
    path = file(tmp_path / "x", several, *map(encode, event_chunks(0, traced_bytes(20_000), 1 << 60)))
    assert len(exported(path, "html")) < 1 << 20


@pytest.mark.slow
def test_a_page_draws_itself_in_a_browser(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    path = file(tmp_path / "x", contended())
    exported(path, "html")
    command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]
    page = subprocess.run([*command, f"file://{path}.html"], capture_output=True, text=True, timeout=60).stdout
    assert 'data-drawn="4"' in page
    assert "<td>app.lock</td>" in page
