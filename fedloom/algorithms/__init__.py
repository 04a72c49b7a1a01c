"""The mathematics of a round, on named numpy arrays.

Law: pure. State goes in and comes out, no input is written to, no file, clock or network is
touched, and randomness comes from a seed or generator that the caller gives. Whatever grows with
the model or the number of clients streams in blocks, so memory stays flat in both. The standard
library and numpy only.
"""
