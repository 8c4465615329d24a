"""Ahead of the real setproctitle on PYTHONPATH, this makes it look as if it were not installed."""

raise ImportError("hidden by the test")
