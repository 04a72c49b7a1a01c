"""The command line: thin. It reads arguments, calls one function of a lower floor and draws what it says.

The law: no decision about a job is made here, and nothing heavy is imported before a command needs it.
"""
