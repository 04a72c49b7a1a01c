"""The groups of steps that secure aggregation adds to a round, as the embedded engine's workers run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from components import advertise, commit, exchange, masking, reveal, roster, share, survivors
from components.aggregate import Aggregated
from components.client_secrets import ClientSecrets
from components.request import Place, Request
from components.session import session_of
from fedloom.errors import FedloomError, JobError

_EDGE = {"advertise": advertise.run, "share": share.run, "reveal": reveal.run}
_CLOUD = {"roster": roster.run, "exchange": exchange.run}
STEPS = frozenset({*_EDGE, *_CLOUD, "survivors"})


def run_step(request: Request, place: Place, failures: Mapping[str, Mapping[str, str]]) -> None:
    """Run a group that is one step of secure aggregation.

    Raises JobError where the attempt cannot go on, after writing down why; `UnknownGroup` for
    another step.
    """
    if request.step not in STEPS:
        raise JobError("UnknownGroup", f"no sequence for the step {request.step}")
    if request.step in _EDGE:
        _EDGE[request.step](request, place)
        return
    try:
        if request.step == "survivors":
            place.work.mkdir(parents=True, exist_ok=True)
            survivors.run(request, place, failures)
        else:
            _CLOUD[request.step](request, place)
    except JobError as error:
        _record(request, place, error, failures)
        raise


def run_masked(compression: Request, place: Place, learn: Callable[[], None]) -> None:
    """Train and compress a client that is in the round; one that fails forgets its secrets.

    `learn` does it. Raises what it raises, and UpdateError where the client is not in the round.
    """
    assert compression.client is not None
    try:
        masking.prepare(compression, place)
        learn()
    except BaseException:
        ClientSecrets(place.edge, compression.client).spend(session_of(compression))
        raise


def _record(
    request: Request, place: Place, error: JobError, failures: Mapping[str, Mapping[str, str]]
) -> None:
    end = replace(request, outputs={"attempt": request.settings["attempt"]})
    found = Aggregated({}, {client: dict(failure) for client, failure in failures.items()})
    try:
        commit.record_failure(end, place, error.reason, error.message, found)
    except FedloomError as trouble:
        print(f"fedloom: the failure could not be recorded: {trouble}", flush=True)
