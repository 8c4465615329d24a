"""Names of users."""

from __future__ import annotations

import pwd


def name_of(user: int) -> str:
    """Return the name, or the number if this machine does not know it: a container's user."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
