"""What a training script sees.

The law: a script is a class (or any program); it is given a model, a client and a round and gives back an
update. Nothing in here knows who runs the script: a warm worker of the embedded engine, a container in a
pod, or a shell. Helpers for numpy and torch are modules of their own, loaded only by who uses them.
"""
