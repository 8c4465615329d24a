"""What acts, when told to: orphaned locks are released, leftover names are removed."""
