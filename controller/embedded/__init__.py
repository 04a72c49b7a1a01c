"""The controller of one machine: observes a state folder and the local engine, acts on both.

The law: everything that must outlive the process is in the state folder, and nothing is written there
before the job is known to be runnable. One process at a time holds the folder.
"""
