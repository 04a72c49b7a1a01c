"""What lets people who come from elsewhere run their scripts as they are.

Nothing of Fedloom imports these packages and they import nothing of Fedloom: they run in the user's own
container, whatever Python is there. This folder itself goes first on PYTHONPATH; so `import sedna` finds
`compat/sedna` in a training script, and nowhere else.
"""
