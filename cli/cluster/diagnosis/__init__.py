"""What `fedloom doctor` looks at, one module per neighbourhood.

The law: a check changes nothing but the pods that it starts and takes away again, says what it found in one
line and what to do about it in another, and takes what it may not see for unknown, not for wrong.
"""
