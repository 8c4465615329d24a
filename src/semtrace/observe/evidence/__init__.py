"""What was read of a process or a semaphore, and what that proves."""
