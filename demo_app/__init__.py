"""A bank under a real gunicorn, and the ways in which its lock can turn out: `python -m demo_app --help`."""
