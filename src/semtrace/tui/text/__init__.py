"""Contents of the screens as plain values: lines, rows, entries and sentences. Pure; Textual is not imported here."""
