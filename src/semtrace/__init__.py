"""semtrace: which worker holds which lock, seen from outside. This module loads the standard library only."""

__version__ = "0.1.0"
