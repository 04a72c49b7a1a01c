"""Keys: agreement between two parties, sealed messages, keystreams.

The law: the one door to the library `cryptography`. A secret is bytes that its owner passes in; it is
in no message, no log and no repr, and nothing here writes it anywhere. Nothing here knows of rounds.
"""
