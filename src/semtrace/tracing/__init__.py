"""What traced locks tell their viewers: state files and events, folded into one state."""
