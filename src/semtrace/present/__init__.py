"""The only place that makes text from typed values. Pure."""
