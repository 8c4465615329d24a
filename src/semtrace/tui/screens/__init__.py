"""The screens of the live view: one file each."""
