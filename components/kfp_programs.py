"""The user's side of a task in one container with ours: always a program, told where its data really is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from components.command import Steps
from components.download import SERVER, Downloads
from components.edge_state import own_folder
from components.outcome import Outcome, read_outcome
from components.request import Place, Request
from components.user_code import Given, UserCode
from fedloom.training.environment import TaskEnvironment


class Programs(UserCode):
    """Runs every script as a program of its own: its image's Python path is not ours."""

    def perform(self, request: Request, place: Place, state: Path, given: Given | None) -> Outcome:
        environment = self.run(request, place, state, given)
        return read_outcome(environment.update, environment.result)

    def perform_split(self, environment: TaskEnvironment, request: Request, place: Place) -> None:
        command = [*request.settings["command"], *request.settings["args"]]
        self._run(command, environment, request, place, None)


def located(requests: Steps, place: Place, own: frozenset[str]) -> dict[str, Request]:
    """Bring here what the tasks need from elsewhere, and give them with the places where it now is.

    `own` are variables that the container got by itself (`valueFrom`): they stay what they are.
    """
    here = _brought(requests, place)
    return {step: _moved(request, here, own) for step, request in requests.items()}


def _brought(requests: Steps, place: Place) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for request in requests.values():
        wanted = request.settings.get("downloads", ())
        signed: Mapping[str, str] = request.settings.get("signed", {})
        if wanted and "task" in request.settings:  # a step of ours fetches by itself
            downloads = Downloads(own_folder(place.edge, request.client or SERVER) / "downloads")
            for url in wanted:
                if url not in found:
                    found[url] = str(downloads.fetch(url, signed.get(url)).path)
    return found


def _moved(request: Request, here: Mapping[str, str], own: frozenset[str]) -> Request:
    settings = request.settings
    if "environment" not in settings:
        return request
    variables = {
        name: here.get(value, value)
        for name, value in settings["environment"].items()
        if name not in own
    }
    moved = {
        name: here.get(settings[name], settings[name])
        for name in ("dataset", "pretrained")
        if name in settings
    }
    return replace(request, settings={**settings, "environment": variables, **moved})
