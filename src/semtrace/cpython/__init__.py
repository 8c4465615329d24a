"""Read a CPython interpreter's memory from outside, by offsets that each name their source."""
