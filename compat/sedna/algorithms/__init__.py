"""The aggregations, client choosers and transmitters that Sedna scripts name.

Choosers and transmitters only carry parameters: who takes part in a round and how arrays travel is
decided by the job, outside the script.
"""
