"""The aggregating side of a script: it says what it wants, or combines the updates of one round.

No server is started and no port is opened.
"""
