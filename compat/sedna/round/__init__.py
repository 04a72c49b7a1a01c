"""How one run of a script meets Fedloom: its task read, its outcome handed over. Not for scripts.

Everything that crosses goes through the files named by FEDLOOM_* variables, arrays as safetensors.
A run ends by `task.finish` or `task.fail`; what cannot be done is said in one line on stderr.
"""
