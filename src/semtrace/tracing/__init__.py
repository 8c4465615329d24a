"""State files and events of traced locks, folded into one state."""
