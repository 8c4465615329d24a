"""Programs of the standard library that hang, as people reported them, and their siblings."""

from __future__ import annotations

import pytest
from support.pythons import VERSIONS, need, thinned

from cases import standard
from cases.examining import Case, check, versions_of

# What depends most on the interpreter's layout: each version runs one of these besides those that fall to it.
LAYOUT = ("twice_shared", "private_forks", "slow_exitstack", "reader_killed", "join_holding")
_BY_TITLE = {case.title: case for case in standard.CASES}
_CHOSEN = dict.fromkeys(
    [(title, version) for title in _BY_TITLE for version in versions_of(title)] + thinned(LAYOUT, VERSIONS)
)

PARAMETERS = [
    pytest.param(case, version, id=f"{title}-{version}", marks=[pytest.mark.slow] if case.slow else [])
    for title, version in _CHOSEN
    for case in [_BY_TITLE[title]]
]


@pytest.mark.parametrize(("case", "version"), PARAMETERS)
def test_hang_of_the_standard_library_is_explained(case: Case, version: str) -> None:
    check(case, need(version))
