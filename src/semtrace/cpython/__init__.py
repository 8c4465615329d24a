"""What a CPython interpreter's memory shows from outside, by offsets that each name their source."""
