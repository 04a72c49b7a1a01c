"""Codecs: a codec per file, both halves together.

Law: a codec turns an array of floats into named parts, which are arrays themselves, and any
stretch of the parts back into floats. Parts come from outside: `check` has refused what does not
fit before `decode` allocates or reads anything. Integer and boolean tensors are stored as they are
by the caller and never reach a codec that loses anything.
"""
