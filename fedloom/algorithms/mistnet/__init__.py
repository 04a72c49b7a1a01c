"""MistNet: features of a frozen extractor as bits, each flipped by chance before it leaves its edge.

Law: one image at a time, so memory does not grow with their number. Noise is bytes that the caller
hands in. Every figure of privacy errs on the side of the one whose image it is, and no noise is
called no noise: its epsilon is infinite, never a large number.
"""
