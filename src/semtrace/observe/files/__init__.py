"""File locks: who has them, who waits, and what they are called."""
