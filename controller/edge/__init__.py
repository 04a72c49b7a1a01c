"""The local controller: one process on each edge node, beside the workers there.

The law: it knows its node and what the cloud sent it, no API server and no store. What it took on is on
disk before it says so; it goes on wherever it was killed. It opens every connection to the cloud itself,
answers nobody without a certificate but the workers of its own node, and reads no file outside the folders
that it was given.
"""
