"""The live view in a terminal. Loads nothing by itself: textual is imported when `tui.app` is."""
