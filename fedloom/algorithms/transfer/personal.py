"""A client's own model beside the common one: Ditto's objective, as a drift correction."""

from __future__ import annotations

from fedloom.algorithms.drift.anchors import float_tensors
from fedloom.algorithms.drift.correction import Arrays, DriftCorrection
from fedloom.algorithms.parameters import require


def ditto(mu: float, common: Arrays) -> DriftCorrection:
    """Give the term by which a client trains its own model v: gradient + mu * (v - common).

    Li, Hu, Beirami, Smith, "Ditto: Fair and Robust Federated Learning Through Personalization" (ICML
    2021, arXiv 2012.04221), algorithm 1: the personal model is pulled to the common model as it is
    now, which is trained as if there were no personal ones. mu = 0 is training alone, a large mu
    the common model. L2-SP is the same pull to where the job began (`drift.correction`).

    Args:
        mu: strength, >= 0; the paper's lambda.
        common: the model of the current round, all arrays by name.

    Raises:
        JobError: `InvalidParameter`, for a negative or not finite strength.
    """
    require(0 <= mu < float("inf"), "mu", mu, "a finite number >= 0")
    return DriftCorrection(mu=mu, anchor=float_tensors(common))
