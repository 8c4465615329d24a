"""The old place of `support.pythons`, for tests/cases."""

from support.pythons import VERSIONS, every, need

__all__ = ["VERSIONS", "every", "need"]
