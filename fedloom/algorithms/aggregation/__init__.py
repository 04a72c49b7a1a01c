"""Rules that turn the updates of a cohort into one: a rule per file.

Law: a rule reads its updates through `source.UpdateSource`, block by block, and yields the result
block by block in sorted order of tensors. It never holds a whole model. The order of the clients
is the caller's (by name), so the same cohort gives the same bits whoever answered first.
"""
