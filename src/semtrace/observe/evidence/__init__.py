"""Evidence about a process or a semaphore, and what it proves."""
