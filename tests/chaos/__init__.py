"""The chaos test: programs that are killed, stopped, forked and starved, and snapshots compared with their journal."""
