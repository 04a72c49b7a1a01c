"""The training side of a script: one run of it is one task of one round.

`train()` does what FEDLOOM_TASK asks, hands the outcome over and returns to the script.
"""
