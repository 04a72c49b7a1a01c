"""Learning from another job: what fits, what is copied, and whether it is any good.

The law: nobody in here knows where models come from or who measured them. Names, shapes and dtypes
decide what fits; losses and counts of clients decide what is taken, and training from scratch is
always one of the candidates. Whatever is not sure is answered with scratch.
"""
