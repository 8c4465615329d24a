"""Parts that every command has: output, progress, the signals that end it, and the child that root works in."""
