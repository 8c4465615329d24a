"""Metrics of servers for Prometheus: from the snapshots that the live view and `doctor` take, too."""
