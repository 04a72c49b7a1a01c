"""What the server does with the aggregated update: a server optimizer per file.

Law: state in, state out. `apply` takes one block of the model, of the update and of each slot, and
gives new arrays back; what it was given it leaves as it was. Hyperparameters are fixed when the
optimizer is made, everything that changes from round to round is in the slots.
"""
