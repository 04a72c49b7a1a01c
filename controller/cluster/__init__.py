"""The controller of a cluster: observes its objects and the jobs' stores, acts through the API server.

The law: `kubernetes.py` is the one door to the API, and only dicts go through it. What is decided, resolved
or said in a status is decided by pure modules. Every action is idempotent by a deterministic name, so any
process may be killed between any two calls; only the one that holds the Lease acts.
"""
