"""evaluate (cloud or edge): run the user's evaluation of a model on the job's evaluation dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping

from components import user_code
from components.request import Place, Request
from fedloom.errors import JobError, UpdateError


def run(
    request: Request, place: Place, code: user_code.UserCode, model: Mapping[str, str]
) -> dict[str, float]:
    """Give the metrics of `model` ({`key`, `digest`}) by name; numbers that are not finite are left out.

    Raises JobError("EvaluationFailed") where the user's code fails.
    """
    state = place.memory / "evaluation-state"  # the same in every round: instances stay warm
    user_code.clear(state)
    state.mkdir(parents=True)
    try:
        outcome = code.perform(request, place, state, user_code.Given(model))
    except UpdateError as error:
        raise JobError("EvaluationFailed", f"{error.reason}: {error.message}") from error
    finally:
        user_code.clear(state)
    return {name: value for name, value in (outcome.metrics or {}).items() if math.isfinite(value)}
