"""Which processes are a server: gunicorn's masters and workers, or the tree of any other Python."""
