"""Repairs, on request: orphaned locks are released, leftover names are removed."""
