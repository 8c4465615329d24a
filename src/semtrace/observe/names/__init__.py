"""What locks are called, and what they belong to."""
