"""A recording for other tools and other people: CSV, Chrome's trace format, Perfetto, and one page of HTML."""
