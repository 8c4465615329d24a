"""Private locks: who has them, who waits, and who is inside `with`."""
