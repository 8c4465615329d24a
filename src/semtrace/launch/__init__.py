"""Start a server with its locks traced, and keep its output."""
