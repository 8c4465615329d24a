"""A traced process through all that happens to processes, with each Python that is supported and there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import PATIENCE_S, PROGRAMS, pythons

from semtrace.wire.place import SERVER_VARIABLE, SHM_VARIABLE, parse_state_name

SOURCE = Path(__file__).parents[2] / "src"
PROGRAM = str(PROGRAMS / "traced_lives.py")


def interpreters() -> list[str]:
    """Return this interpreter and the newest of each other version that the traced locks support."""
    others = {version: path for version, path in pythons.every().items() if int(version[2:]) >= 10}
    others.pop(f"3.{sys.version_info[1]}", None)
    return [sys.executable, *others.values()]


# Whose evidence stays behind: a killed process's, or that of one that ended with a lock held.
LEAVING = {"a_killed_one_leaves_its_file", "one_that_ends_with_a_lock_leaves_its_file"}
LIVES = [
    "fork_before_the_first_lock",
    "fork_after_the_first_lock",
    "fork_while_held",
    "a_child_releases_what_its_parent_acquired",
    "fork_with_other_threads_at_it",
    "fork_child",
    "spawn_child",
    "forkserver_child",
    "pool_and_queue_and_manager",
    "exec_goes_on_under_the_same_pid",
    "the_next_start_sweeps",
    "an_exec_ed_child_joins",
    "locks_at_interpreter_shutdown",
    "application_closes_all_descriptors",
    "fork_is_told",
    "hostile_fifos",
    *sorted(LEAVING),
]

INHERITING = [
    "spawned_children_make_locks",
    "children_of_an_older_forkserver_make_locks",
    "a_forkserver_of_a_traced_environment",
]


@pytest.fixture
def base() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="semtrace-test-", dir="/dev/shm"))
    yield directory
    shutil.rmtree(directory)


def live(life: str, base: Path, python: str = sys.executable) -> str:
    """Run it; its standard error if it went well."""
    env = {**os.environ, "PYTHONPATH": str(SOURCE), SHM_VARIABLE: str(base), SERVER_VARIABLE: ""}
    command = [python, "-W", "ignore::DeprecationWarning", PROGRAM, life]  # of a fork with threads
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("fine\n"), done.stdout + done.stderr
    return done.stderr


def left(base: Path) -> list[str]:
    return sorted(path.name for path in base.glob("semtrace-*/*/*"))


@pytest.mark.parametrize(
    ("life", "python"),
    pythons.thinned(LIVES, interpreters()),
    ids=lambda value: Path(value).parents[1].name if "/" in value else value,
)
def test_lives(life: str, python: str, base: Path) -> None:
    assert live(life, base, python) == ""
    if life == "locks_at_interpreter_shutdown":
        assert len([name for name in left(base) if parse_state_name(name)]) <= 1  # its thread may hold its lock
    elif life in LEAVING:
        assert len([name for name in left(base) if parse_state_name(name)]) == 1
    else:
        assert left(base) == []


@pytest.mark.parametrize(
    "python", sorted({sys.executable, interpreters()[-1]}), ids=lambda path: Path(path).parents[1].name
)
@pytest.mark.parametrize("life", INHERITING)
def test_children_that_are_programs_of_their_own_are_traced(life: str, python: str, base: Path) -> None:
    assert live(life, base, python) == ""
    assert left(base) == []


ROOT_S = ["another_users_directory", "workers_change_their_user"]


@pytest.mark.parametrize("life", ["an_open_directory", "a_symbolic_link", "another_users_directory"])
def test_directory_not_ours_alone_is_refused_in_one_line(life: str, base: Path) -> None:
    if life in ROOT_S and os.geteuid() != 0:
        pytest.skip("needs root to chown")
    said = live(life, base).splitlines()
    assert len(said) == 1
    assert "tracing is off" in said[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_a_full_shm_is_an_error_and_no_bus_error(base: Path) -> None:
    said = live("memory_is_full", base).splitlines()
    assert len(said) == 1
    assert "No space left" in said[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change the user")
def test_workers_of_another_user_have_a_directory_of_their_own(base: Path) -> None:
    assert live("workers_change_their_user", base) == ""


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: Path(path).parents[1].name)
def test_the_import_is_fast_and_loads_nothing(python: str) -> None:
    program = "import sys, time; t = time.process_time(); import semtrace; t = time.process_time() - t\n"
    program += "assert 'semtrace.instrument' not in sys.modules\n"
    program += "assert 'multiprocessing' not in sys.modules\nassert semtrace.Lock\nprint(t)"
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    runs = [subprocess.run([python, "-c", program], env=env, check=True, capture_output=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 0.01


def test_the_bootstrap_runs_the_sitecustomize_that_it_hides(tmp_path: Path, base: Path) -> None:
    from semtrace.instrument.bootstrap import environment

    (tmp_path / "sitecustomize.py").write_text("import sys; sys.mine = True\n")
    env = environment({**os.environ, "PYTHONPATH": str(tmp_path), SHM_VARIABLE: str(base)})
    program = "import sys; assert sys.mine; from semtrace import is_installed; assert is_installed()"
    program += "; print(sys.path)"
    on = subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True)
    program = "import sys; assert sys.mine; assert 'semtrace' not in sys.modules; print(sys.path)"
    env["SEMTRACE"] = "0"
    off = subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True)
    assert on.stdout == off.stdout


def test_the_bootstrap_s_variables_are_for_an_environment_file() -> None:
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "semtrace.instrument.bootstrap"]
    lines = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "SEMTRACE=1"
    assert lines[1].startswith(f"PYTHONPATH={SOURCE}/semtrace/instrument/bootstrap/path:")
