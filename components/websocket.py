"""websocket (cloud): aggregate for clients that speak Sedna's first protocol, all rounds of their job.

    python -I -m components.websocket --plan plan.json --store URI --workdir DIR

Old images connect once and stay for all rounds, so those are the inner rounds of this one step. Its model is
the last inner round's. A process that is started again goes on behind the last inner round that is stored;
whether its clients come back is theirs to say.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.aggregated import Aggregated
from components.command import run_command
from components.inner_rounds import InnerRounds, TooFewUpdatesError
from components.request import Place, Request
from components.websocket_gathering import Terms
from fedloom.artifacts.layout import attempt_key
from fedloom.errors import JobError

_DECODED = 5
"""How many times its own length a message takes while it is decoded: text, lists and arrays."""
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class WebsocketAttempt:
    """One attempt of the round: `found` is what is known of it, also when `run` has raised."""

    def __init__(self, request: Request, place: Place) -> None:
        self._request = request
        self._rounds = InnerRounds(request, place)
        self.found: Aggregated | None = None

    def run(self, on_listening: Callable[[int], None] = lambda _: None) -> Aggregated:
        """Serve until the last inner round is done; `on_listening` gets the port. Raises JobError."""
        # Its library is a dependency of this step alone.
        from components.websocket_server import WebsocketServer

        settings = self._request.settings
        terms = Terms(
            workers=settings["workers"],
            least=settings["min_clients"],
            deadline_seconds=settings["deadline_seconds"],
            rounds=settings["inner_rounds"],
        )
        if self._rounds.done < terms.rounds:
            server = WebsocketServer(
                terms,
                self._rounds,
                most_bytes=memory_bytes() // _DECODED,
                leave_seconds=settings["leave_seconds"],
            )
            try:
                asyncio.run(server.run(settings["host"], settings["port"], on_listening))
            except TooFewUpdatesError as error:
                self.found = self._rounds.found(error.failures)
                raise
        self.found = self._rounds.finished()
        return self.found


def memory_bytes() -> int:
    """Give the memory that this process may use: its container's limit, else the machine's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUPS:
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            return min(machine, int(text))
    return machine


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Leave the model and what was found for the containers behind this one, as aggregate does."""
    started, attempt = time.time(), WebsocketAttempt(request, place)
    try:
        found = attempt.run()
    except JobError as error:
        from components import commit

        end = replace(request, outputs={"attempt": attempt_key(request.round, request.attempt)})
        commit.record_failure(end, place, error.reason, error.message, attempt.found)
        raise
    assert found.model is not None
    model = place.store.materialize(
        found.model.key, place.work / "models", digest=found.model.digest
    )
    shutil.copyfile(model, place.work / "model.safetensors")
    document = found.to_document() | {"steps": {"aggregate": [started, time.time()]}}
    (place.work / "aggregated.json").write_text(json.dumps(document))
    return {"accepted": sorted(found.reports), "failures": found.failures}


if __name__ == "__main__":
    run_command("websocket", _run_as_command)
