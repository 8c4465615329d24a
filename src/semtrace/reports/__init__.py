"""What people and programs get to read: text and JSON. Pure."""
