"""Take a snapshot of a server's locks from the kernel and from the interpreter's memory."""
