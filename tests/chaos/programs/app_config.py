"""Settings of the gunicorn that serves app.py."""

import os


def worker_abort(worker):
    """Ends at once what took too long: an exception would release its lock without a word in the journal."""
    os._exit(1)
