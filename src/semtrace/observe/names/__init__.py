"""Find the names of locks, and what they belong to."""
