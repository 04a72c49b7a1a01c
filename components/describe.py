"""describe (cloud, once): ask the aggregation worker's program what the job is to be.

Sedna's document leaves rounds, algorithm and quorum to that program. It is asked before `initialize`, without
data and model, and what it said becomes a part of round 0's result. A program that fails or says nothing
changes nothing.

As a command it runs behind the program's container, and takes what that left in the work folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components import user_code
from components.command import run_command
from components.request import Place, Request
from fedloom.api.sedna import PROBLEM, checked_description
from fedloom.errors import ArtifactNotFoundError, JobError, UpdateError

_SILENT = "the aggregation worker's program wrote no description (see its log)"


def run(request: Request, place: Place, code: user_code.UserCode) -> dict[str, Any]:
    """Run the program and store what it said, or what became of it; give that."""
    if not request.settings["command"]:
        message = (
            "got no command: embedded runs ignore the image, so they cannot know its entrypoint"
        )
        return _store(request, place, {PROBLEM: message})
    state = user_code.fresh_folder(place.work)
    try:
        environment = code.run(request, place, state, None)
    except UpdateError as error:
        return _store(request, place, {PROBLEM: f"{error.reason}: {error.message}"})
    finally:
        user_code.clear(state)
    assert environment.result is not None
    return _store(request, place, _said(environment.result))


def read(place: Place, key: str) -> dict[str, Any]:
    """Read what `run` stored; that there is nothing, where it came to no end."""
    try:
        found: dict[str, Any] = json.loads(place.store.get(key))
    except ArtifactNotFoundError:
        return {PROBLEM: _SILENT}
    return found


def _said(path: Path) -> dict[str, Any]:
    try:
        return checked_description(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return {PROBLEM: _SILENT}
    except (OSError, ValueError) as error:
        return {PROBLEM: f"FEDLOOM_RESULT is not JSON: {error}"}
    except JobError as error:
        return {PROBLEM: f"{error.reason}: {error.message}"}


def _store(request: Request, place: Place, description: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(description, sort_keys=True).encode()
    place.store.put(request.outputs["description"], data, replace=True)
    return description


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    return _store(request, place, _said(place.work / "result.json"))


if __name__ == "__main__":
    run_command("describe", _run_as_command)
