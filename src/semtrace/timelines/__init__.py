"""Holds and waits of the last minutes: spans of time, and the cells that they are drawn in. Pure."""
