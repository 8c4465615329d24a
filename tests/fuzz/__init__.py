"""Fuzzers of all that decodes what a target chooses: `python -m tests.fuzz --seconds 60 [--only NAME] [--seed N]`.

They are mutational and need no tool: each takes a random generator, makes something plausible and damages it. What they
demand: nothing is raised, nothing grows past its bound, and what reaches a terminal is harmless.
"""
