"""The wait graph: which threads can never go on, and why. Pure.

`graph` finds the stuck threads and their causes; every finding, view and metric about blocking reads its result.
"""
