"""Programs in which nothing is wrong, however much their threads wait."""

from __future__ import annotations

import pytest
from support.pythons import need

from cases import healthy
from cases.examining import Case, check, interpreter, versions_of


@pytest.mark.parametrize(
    ("case", "version"),
    [
        pytest.param(case, version, id=f"{case.title}-{version}")
        for case in healthy.CASES
        for version in versions_of(case.title)
    ],
)
def test_healthy_program_raises_no_alarm(case: Case, version: str) -> None:
    check(case, need(version))


@pytest.mark.parametrize("case", healthy.LIBRARIES, ids=lambda case: case.title)
def test_idle_pool_of_a_library_raises_no_alarm(case: Case) -> None:
    check(case, interpreter(case.needs))
