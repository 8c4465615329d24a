"""Programs of the standard library that hang, as people reported them, and their siblings."""

from __future__ import annotations

import pytest
from pythons import need

from cases import standard
from cases.examining import PAIR, Case, check

# Not explained yet: a program of another kind that is waited for (it is no member of the server), a Manager's lock,
# and the proof of an orphan in 1.6 GB within the doctor's patience.
LATER = frozenset({"pipe_undrained", "manager_dead"})

PARAMETERS = [
    pytest.param(case, version, id=f"{case.title}-{version}", marks=[pytest.mark.slow] if case.slow else [])
    for case in standard.CASES
    if case.title not in LATER
    for version in PAIR
]


@pytest.mark.parametrize(("case", "version"), PARAMETERS)
def test_hang_of_the_standard_library_is_explained(case: Case, version: str) -> None:
    check(case, need(version))
