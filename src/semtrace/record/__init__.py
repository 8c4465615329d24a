"""Recordings: the snapshots and events of a server in a file, and what reads them again. docs/recording-format.md has
the format.
"""
