"""The systems that the benchmarks put side by side, and what measures them.

The law: every system runs as a program of its own, on the same model, data and seeds, and tells
each finished round by one JSON line; whoever measures looks at it from outside and knows nothing
of it.
"""
