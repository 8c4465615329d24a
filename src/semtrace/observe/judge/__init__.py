"""Judge who holds a semaphore, what it is a part of, and whether it is orphaned."""
