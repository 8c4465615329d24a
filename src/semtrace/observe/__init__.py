"""From what the kernel and the interpreter's memory show of a server to a snapshot of its locks."""
