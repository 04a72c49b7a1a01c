"""What every Sedna script reads first: its environment, its registry of classes, files and the log.

Nothing here talks to a network, and importing it changes nothing.
"""
