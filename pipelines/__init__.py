"""From a job to a workflow: rounds make plans, engines run them.

The law: a plan is an immutable value, made by pure functions and checked when it is made. Engines translate
plans and know nothing of learning; nothing in here knows of the controller that asks for a round.
"""
