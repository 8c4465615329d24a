"""The documents that programs make: the findings reference, the manual page and the site."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_findings_reference_is_as_the_code_makes_it() -> None:
    made = subprocess.run(
        [sys.executable, "-c", "import reference; print(reference.page(), end='')"],
        cwd=ROOT / "docs",
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == (ROOT / "docs" / "findings.md").read_text(), "run python docs/reference.py"


def test_manual_page_is_as_the_parser_makes_it() -> None:
    pytest.importorskip("argparse_manpage")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("argparse lays out usage lines otherwise in other versions")
    made = subprocess.run(
        [sys.executable, "-c", "import manpage; print(manpage.page(), end='')"],
        cwd=ROOT / "docs",
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == (ROOT / "man" / "semtrace.1").read_text(), "run python docs/manpage.py"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "findings" / "index.html").exists()
