"""Find the CPythons that serve as targets: pyenv's, those that `.ci/pythons` has fetched, and those on the PATH."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")
U = TypeVar("U")

VERSIONS = tuple(f"3.{minor}" for minor in range(8, 16))
"""Those that semtrace can look into."""

FETCHED = Path(os.environ.get("SEMTRACE_PYTHONS") or Path.home() / ".cache/semtrace/pythons")


def find(version: str) -> str | None:
    """Return the path of the newest interpreter of that version, None if there is none."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"), key=_patch)
    if pyenv:
        return str(pyenv[-1])
    fetched = FETCHED / version / "bin/python3"
    return str(fetched) if (FETCHED / version / "recipe").exists() else shutil.which(f"python{version}")


def need_host(version: str) -> str:
    """Return the path of an interpreter of that version that has what semtrace and its demo need, or skip the test."""
    found = FETCHED / f"{version}-host" / "bin/python3"
    if not (found.parent.parent / "needs").exists():
        pytest.skip(f"no Python {version} as a host here: `.ci/pythons` and `.ci/hosts` make it")
    return str(found)


def need(version: str) -> str:
    """Return the path of an interpreter of that version, or skip the test."""
    found = find(version)
    if found is None:
        pytest.skip(f"no Python {version} here: `.ci/pythons` fetches 3.14 and 3.15")
    return found


def every() -> dict[str, str]:
    """Return all that can be found, the oldest first, and the one that runs the tests, by version."""
    own = f"3.{sys.version_info[1]}"
    found = {version: sys.executable if version == own else find(version) for version in VERSIONS}
    found.setdefault(own, sys.executable)
    return {version: path for version, path in found.items() if path}


def thinned(first: Sequence[T], second: Sequence[U]) -> list[tuple[T, U]]:
    """Return pairs in which each of `first` and each of `second` is found, with SEMTRACE_BOTH=1 all pairs."""
    if os.environ.get("SEMTRACE_BOTH"):
        return list(product(first, second))
    count = max(len(first), len(second))
    return [(first[at % len(first)], second[at % len(second)]) for at in range(count)]


def _patch(python: Path) -> list[int]:
    """Return the numbers of its version: 3.8.9 is older than 3.8.18."""
    return [int(part) for part in python.parts[-3].split(".") if part.isdigit()]
