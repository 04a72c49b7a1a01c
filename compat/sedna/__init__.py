"""The `sedna` package that training scripts written for Sedna import, run by Fedloom's rounds.

It imports the standard library and numpy only, by relative imports only, and is written for Python 3.6
and later, since it runs in whatever image a script brings. Torch, keras and sklearn are met through the
objects that a script hands over and never imported first. Nothing here unpickles or pickles anything.
"""
