"""What every command has: its output, its progress, the signals that end it, and the child that a root works in."""
