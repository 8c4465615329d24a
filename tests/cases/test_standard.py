"""Programs of the standard library that hang, as people reported them, and their siblings."""

from __future__ import annotations

import pytest
from pythons import VERSIONS, need

from cases import standard
from cases.examining import Case, check, versions_of

# What depends most on the interpreter's layout runs on all versions.
ON_ALL = frozenset({"twice_shared", "private_forks", "slow_exitstack", "reader_killed", "join_holding"})

PARAMETERS = [
    pytest.param(case, version, id=f"{case.title}-{version}", marks=[pytest.mark.slow] if case.slow else [])
    for case in standard.CASES
    for version in (VERSIONS if case.title in ON_ALL else versions_of(case.title))
]


@pytest.mark.parametrize(("case", "version"), PARAMETERS)
def test_hang_of_the_standard_library_is_explained(case: Case, version: str) -> None:
    check(case, need(version))
