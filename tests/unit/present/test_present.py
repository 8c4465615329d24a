"""The wording of findings: one golden file has all of it. SEMTRACE_UPDATE_GOLDENS=1 rewrites the file: read it before
you commit.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, is_dataclass
from pathlib import Path
from typing import get_args

import pytest
from support.finding_cases import cases

from semtrace.model import Advice, Fact, Finding, FindingCode
from semtrace.present.facts import fact_lines
from semtrace.present.findings import advice, command, evidence, title
from semtrace.present.titles import TITLES
from semtrace.text import wrapped

GOLDEN = Path(__file__).parent / "golden" / "findings.txt"
RULES = Path(__file__).parents[3] / "src" / "semtrace" / "rules"


def rendered(name: str, finding: Finding) -> Iterator[str]:
    yield f"-- {name}"
    yield f"{finding.severity.upper()}  {title(finding)}  [{finding.code}]"
    for line in evidence(finding):
        yield from wrapped(line, 110, "    - ", "      ")
    yield from wrapped(advice(finding), 110, "    > ", "      ")
    if pasted := command(finding):
        yield f"      {pasted}"
    yield ""


def test_the_wording_of_every_finding_is_as_it_was() -> None:
    seen = "\n".join(line for name, finding in cases() for line in rendered(name, finding))
    if os.environ.get("SEMTRACE_UPDATE_GOLDENS"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(seen)
    assert seen == GOLDEN.read_text()


def test_every_code_fact_and_advice_is_in_the_golden() -> None:
    findings = [finding for _, finding in cases()]
    assert {finding.code for finding in findings} >= set(FindingCode)
    assert {type(fact) for finding in findings for fact in finding.facts} == set(get_args(Fact))
    assert {each for finding in findings for each in finding.remedy.advice} == set(Advice)


def test_every_code_has_a_title_now_and_when_over() -> None:
    assert set(TITLES) == set(FindingCode)


def test_every_fact_has_lines() -> None:
    for _, finding in cases():
        for fact in finding.facts:
            assert all(line.isprintable() for line in fact_lines(fact))


def test_facts_are_frozen_values_and_never_false() -> None:
    for kind in get_args(Fact):
        assert not [name for name, each in kind.__annotations__.items() if each == "dict"]
    for fact in (fact for _, finding in cases() for fact in finding.facts):
        assert fact
        assert is_dataclass(fact)
        with pytest.raises(FrozenInstanceError):
            fact.seen = True  # type: ignore[union-attr]


def test_rules_make_no_text() -> None:
    for path in RULES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                texts = [each for each in ast.walk(node) if isinstance(each, ast.JoinedStr)]
                assert not texts, f"{path}:{node.lineno} makes text of its own"
            if isinstance(node, ast.ImportFrom):
                assert node.module != "semtrace.text", f"{path}:{node.lineno} imports what makes text"
