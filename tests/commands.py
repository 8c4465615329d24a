"""The old place of `support.commands`, for tests/cases."""

from support.commands import SOURCE

__all__ = ["SOURCE"]
