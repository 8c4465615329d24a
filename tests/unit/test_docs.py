"""The documents tell the truth: what they link to is there, what they tell to type is understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from demo_app.scenarios import SCENARIOS
from semtrace.arguments import parse

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_links_to_is_there(document: Path) -> None:
    for target in LINK.findall(document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_tells_to_type_is_understood(document: Path) -> None:
    blocks = re.findall(r"^```\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    for line in lines:
        typed = line.startswith(("semtrace ", "python -m demo_app")) and "  " not in line  # else: what a screen shows
        words = shlex.split(line) if typed else []
        if words[:1] == ["semtrace"]:
            parse(words[1:])
        elif words:
            assert words[3:4] == [] or words[3] in SCENARIOS, line


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_has_a_picture_that_fetches_nothing(name: str) -> None:
    drawn = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text()
    urls = set(re.findall(r"https?://[^\s\"'<)]+", drawn))
    assert urls <= {"http://www.w3.org/2000/svg", "https://www.textualize.io"}
    assert "@font-face" not in drawn
