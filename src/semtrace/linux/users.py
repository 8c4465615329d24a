"""What users are called."""

from __future__ import annotations

import pwd


def name_of(user: int) -> str:
    """A number if this machine does not know the name: a container's user."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
