"""The command line on a cluster: it applies, looks and asks; the controller decides and acts.

The law: whatever a command wants of a job it writes into the job, and whatever it shows it has read there or
in what belongs to it. Nothing is kept on this machine.
"""
