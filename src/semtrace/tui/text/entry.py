"""A line of a sheet."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A label and its value; either may be empty."""

    label: str
    value: str
    style: str = ""
