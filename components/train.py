"""train (edge): run the user's training on one client's data, from the global model of the round."""

from __future__ import annotations

from pathlib import Path

from components.request import Place, Request
from components.user_code import Outcome, UserCode


def run(request: Request, place: Place, code: UserCode, state: Path) -> Outcome:
    """Train one client and give its new full weights; nothing is checked or sent here.

    Raises UpdateError for whatever the user's code does wrong.
    """
    return code.perform(request, place, state, request.inputs["model"])
