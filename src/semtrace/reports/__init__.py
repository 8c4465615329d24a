"""Reports for people and programs: text and JSON. Pure."""
