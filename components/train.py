"""train (edge): run the user's training on one client's data, from the global model of the round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from components.outcome import Outcome
from components.request import Place, Request
from components.user_code import Given, UserCode


def run(
    request: Request,
    place: Place,
    code: UserCode,
    state: Path,
    personalize: Request | None = None,
) -> Outcome:
    """Train one client and give its new full weights; they are neither checked nor sent here.

    With `personalize` its own model is trained after that. Raises UpdateError for whatever the user's
    code does wrong.
    """
    if "drift" not in request.settings:
        return code.perform(request, place, state, Given(request.inputs["model"]))
    from components.drift import belongings_of  # most jobs need not wait for it

    own = belongings_of(request, place, code)
    outcome = code.perform(request, place, state, own.given)
    own.check(outcome)
    if personalize is not None and own.personal is not None:
        own.personal.train(personalize, place, code, state)
    return replace(outcome, own=own)
