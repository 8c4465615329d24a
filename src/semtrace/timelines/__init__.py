"""Who held and who waited over the last minutes: spans of time, and the cells that they are drawn in. Pure."""
