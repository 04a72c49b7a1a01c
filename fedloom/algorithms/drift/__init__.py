"""What holds clients together while they train apart: FedProx, SCAFFOLD and L2-SP.

The law: every method is one additive term of a gradient, `correction.DriftCorrection`, made before
training from what the client was given; what it learns from the training is a pure function of it.
Only gradients are changed in place: a training step owns them. Nobody in here knows where they
come from, or where control variates are kept.
"""
