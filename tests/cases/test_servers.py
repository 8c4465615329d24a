"""Real servers and other libraries that hang, have the wrong lock, or do nothing."""

from __future__ import annotations

import pytest

from cases import servers
from cases.examining import Case, asked, check, interpreter
from cases.expectations import PROGRAMS
from cases.sickness import gunicorn, running


def title(case: Case) -> str:
    return case.title


@pytest.mark.parametrize("case", servers.SEED, ids=title)
def test_program_of_the_seed_is_judged_by_its_lock(case: Case) -> None:
    check(case, interpreter(case.needs))


@pytest.mark.parametrize("case", servers.FORGOTTEN, ids=title)
def test_lock_forgotten_in_a_request_is_never_inherited(case: Case) -> None:
    check(case, interpreter(case.needs))


@pytest.mark.parametrize("case", servers.ROOMY, ids=title)
def test_server_is_full_only_if_no_thread_is_left(case: Case) -> None:
    check(case, interpreter(case.needs))


@pytest.mark.parametrize("case", servers.OTHERS, ids=title)
def test_hang_of_a_server_is_explained(case: Case) -> None:
    check(case, interpreter(case.needs))


@pytest.mark.parametrize("case", servers.IDLE, ids=title)
def test_idle_server_of_jobs_raises_no_alarm(case: Case) -> None:
    check(case, interpreter(case.needs))


def test_private_lock_is_silent_where_it_is_ignored() -> None:
    command = gunicorn(interpreter(("gunicorn",)), "-w", "2", "seed_app:app")
    with running(command, PROGRAMS, {"LOCK": "threading", "STYLE": "with"}) as sick:
        servers.requests(("/", "/"), asleep=2)(sick)
        _, doctor = asked("doctor", sick.pid, "--for", 0.5, "--ignore", "seed_app.lock")
        assert [finding for finding in doctor["findings"] if finding["name"] == "seed_app.lock"] == []
