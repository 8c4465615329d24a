"""The terminal: its colours, its abilities, a browser in its place, and what is saved from it."""
