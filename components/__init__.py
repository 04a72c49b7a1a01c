"""The steps of a round: initialize, train, compress, aggregate, evaluate, commit, publish.

The law: a step knows its request (declared inputs and outputs by key) and the place it runs in, and
nothing of engines, workflows or other steps. Running a step twice gives the same bytes. What one step
hands to the next goes through the store, or through the work folder they share on one node.
"""
