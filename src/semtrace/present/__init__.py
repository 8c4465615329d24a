"""The text that people read, made from typed values. Nothing is read, nothing is printed, nothing is decided here.

What the target wrote (names, paths, source lines) is cleaned of control characters on the way.
"""
