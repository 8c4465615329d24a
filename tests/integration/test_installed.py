"""The wheel as it is installed: what is in it, and that SEMTRACE=1 alone traces a server."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CLONE = Path(__file__).parents[2]
PROBE = "import semtrace, multiprocessing as m; m.Lock(); print(semtrace.is_installed())"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    directory = tmp_path_factory.mktemp("wheel")
    build = (
        f"import hatchling.build, os; os.chdir({str(CLONE)!r}); print(hatchling.build.build_wheel({str(directory)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", build], capture_output=True, text=True, check=True)
    return directory / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has nothing but the wheel."""
    environment = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return environment / "bin" / "python"


def test_the_wheel_has_what_it_needs_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    package = CLONE / "src" / "semtrace"
    files = {str(path.relative_to(CLONE / "src")) for path in package.rglob("*") if path.is_file()}
    wanted = {"semtrace.pth", *(file for file in files if "__pycache__" not in file)}
    assert wanted >= {"semtrace/py.typed", "semtrace/tui/semtrace.tcss", "semtrace/web/page.html"}
    assert wanted <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("/share/man/man1/semtrace.1") for name in names)
    assert not any(name.startswith(("tests/", "demo_app/")) for name in names)


@pytest.mark.parametrize(("value", "traced"), [("1", "True"), ("0", "False"), (None, "False")])
def test_the_variable_alone_traces(python: Path, tmp_path: Path, value: str | None, traced: str) -> None:
    environment = {"SEMTRACE_SHM": str(tmp_path), **({"SEMTRACE": value} if value else {})}
    done = subprocess.run([str(python), "-c", PROBE], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout.strip(), done.stderr) == (traced, "")


def test_without_it_a_start_loads_nothing_of_semtrace(python: Path, tmp_path: Path) -> None:
    command = [str(python), "-c", "import sys; print([m for m in sys.modules if 'semtrace' in m])"]
    done = subprocess.run(command, env={}, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"
