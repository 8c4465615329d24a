"""The version of a gunicorn by what is installed where it runs, without a bound that its owner could choose."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from semtrace.servers import installed, processes


def version(root: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    monkeypatch.setattr(processes, "cmdline", lambda pid: (f"{root}/bin/python", f"{root}/bin/gunicorn"))
    return installed.version_of(os.getpid(), "gunicorn")


def test_installed_distribution_tells_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed.program, "read", lambda path, limit: b"")
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    (packages / "gunicorn-27.0.1.dist-info").mkdir(parents=True)
    assert version(tmp_path, monkeypatch) == "27.0.1"
    (packages / "gunicorn-23.0.0.dist-info").mkdir()
    assert version(tmp_path, monkeypatch) is None


def test_thousands_of_directories_are_not_all_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed.program, "read", lambda path, limit: b"")
    for number in range(300):
        (tmp_path / f"lib{number}" / "python3").mkdir(parents=True)
    looked: list[Path] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(path) or scandir(path))
    began = time.monotonic()
    assert version(tmp_path, monkeypatch) is None
    assert len(looked) < 40
    assert time.monotonic() - began < 5
