"""The steps of one node in order: a client's train and compress, the server's aggregate to commit.

An engine that runs steps as containers lets its workflow do this; the embedded engine's workers do it here,
handing values over in memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from components import aggregate, commit, compress, evaluate, initialize, train
from components.edge_state import EdgeState
from components.request import Place, Request
from components.user_code import UserCode
from fedloom.artifacts.artifact import Artifact
from fedloom.errors import FedloomError, JobError, UpdateError

Requests = Mapping[str, Request]
_TRANSFER_STEPS = frozenset(("adopt-source", "stage", "score", "merge", "assess", "choose"))
_SPLIT_STEPS = frozenset(("prepare-extractor", "release", "train-tail"))


class Clock:
    """Start and end of each step, unix seconds."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.time()
        try:
            yield
        finally:
            self.steps[name] = [started, time.time()]


def run_client(requests: Requests, place: Place, code: UserCode) -> None:
    """Train and compress one client; its report is in the store when this returns.

    Raises UpdateError or another FedloomError; then no report is written and the server will not
    find an update.
    """
    clock, received = Clock(), None
    training, compression = requests["train"], requests["compress"]
    assert training.client is not None
    if "receive" in requests:
        from components import receive

        with clock.step("receive"):
            received = receive.run(requests["receive"], place)
        training, compression = (received.given_to(each) for each in (training, compression))
    state = edge_state_of(place.edge, training.client)
    with clock.step("train"):
        folder = state.begin(training.settings["accepted"])
        outcome = train.run(training, place, code, folder, requests.get("personalize"))
    with clock.step("compress"):
        model = code.model(place, training.inputs["model"])
        report = compress.run(compression, place, outcome, model)
    state.finish(report["update"]["digest"])
    if received is not None:
        received.tell(report)
    steps = report["steps"] = clock.steps
    report["seconds"] = round(steps["compress"][1] - next(iter(steps.values()))[0], 6)
    compress.write_report(compression, place, report)


@cache
def edge_state_of(edge: Path, client: str) -> EdgeState:
    """The edge state of a client on this node."""
    return EdgeState(edge / client)


def run_server(
    requests: Requests, place: Place, code: UserCode, failures: Mapping[str, Mapping[str, str]]
) -> None:
    """Aggregate, evaluate where the plan says so, and commit the round.

    Raises JobError when the attempt gave no model, after writing down why.
    """
    clock, found = Clock(), None
    end = requests["commit"]
    try:
        with clock.step("aggregate"):
            found = _aggregated(requests, place, code, failures)
        if found.model is None:
            raise JobError("TooFewClients", commit.too_few(end, found))
        metrics: Mapping[str, float] = {}
        if "evaluate" in requests:
            with clock.step("evaluate"):
                model = {"key": found.model.key, "digest": found.model.digest}
                metrics = evaluate.run(requests["evaluate"], place, code, model)
        found.states |= broadcast(requests, place, found.model, clock)
        commit.commit_round(end, place, found, metrics, clock.steps)
    except JobError as error:
        record(end, place, error, found)
        raise


def _aggregated(
    requests: Requests, place: Place, code: UserCode, failures: Mapping[str, Mapping[str, str]]
) -> aggregate.Aggregated:
    """Aggregate by a rule of ours, or let the aggregation worker's program do it."""
    is_durable = commit.is_durable(requests["commit"])
    if "script" not in requests:
        return aggregate.run(requests["aggregate"], place, failures, is_durable=is_durable)
    from components import script

    return script.run(requests, place, code, failures, is_durable=is_durable)


def run_part(request: Request, place: Place, failures: Mapping[str, Mapping[str, str]]) -> None:
    """Run a task that shares the work of an aggregation. Raises JobError after writing down why."""
    from components import combine, shard

    run = {"combine": combine.run, "shard": shard.run}[request.step]
    try:
        run(request, place, failures)
    except JobError as error:
        end = replace(request, outputs={"attempt": request.settings["attempt"]})
        record(end, place, error, None)
        raise


def broadcast(
    requests: Requests, place: Place, model: Artifact, clock: Clock
) -> dict[str, Artifact]:
    """Make what goes down to the clients, where that is not the model itself; give the new states."""
    if "broadcast" not in requests:
        return {}
    from components import broadcast as step

    durable = commit.is_durable(requests["commit"])
    with clock.step("broadcast"):
        return step.run(requests["broadcast"], place, model, is_durable=durable)


def run_initial(requests: Requests, place: Place, code: UserCode) -> None:
    """Make and commit round 0. Raises JobError after writing down why."""
    clock = Clock()
    end = requests["commit"]
    try:
        with clock.step("initialize"):
            model = initialize.run(requests["initialize"], place, code)
        states = broadcast(requests, place, model, clock)
        commit.commit_initial(end, place, model, states, clock.steps)
    except JobError as error:
        record(end, place, error, None)
        raise


def run_websocket(requests: Requests, place: Place) -> None:
    """Serve clients that speak Sedna's first protocol, and commit. Raises JobError after writing down why."""
    from components.websocket import WebsocketAttempt

    clock, end = Clock(), requests["commit"]
    attempt = WebsocketAttempt(requests["websocket"], place)
    try:
        with clock.step("aggregate"):
            found = attempt.run()
        commit.commit_round(end, place, found, {}, clock.steps)
    except JobError as error:
        record(end, place, error, attempt.found)
        raise


def record(
    end: Request, place: Place, failure: JobError, found: aggregate.Aggregated | None
) -> None:
    """Write a failure down if the store still takes anything: the failure itself is the news."""
    try:
        commit.record_failure(end, place, failure.reason, failure.message, found)
    except FedloomError as error:
        print(f"fedloom: the failure could not be recorded: {error}", flush=True)


def run_group(
    requests: Requests, place: Place, code: UserCode, failures: Mapping[str, Mapping[str, str]]
) -> None:
    """Run the steps of one group of a plan, whichever it is."""
    if "train" in requests and "masking" in requests["compress"].settings:
        from components import secure_sequence

        secure_sequence.run_masked(
            requests["compress"], place, lambda: run_client(requests, place, code)
        )
    elif "train" in requests:
        run_client(requests, place, code)
    elif not _TRANSFER_STEPS.isdisjoint(requests):
        from components import transfer_sequence

        transfer_sequence.run_group(requests, place, code, failures)
    elif "initialize" in requests:
        run_initial(requests, place, code)
    elif "aggregate" in requests:
        run_server(requests, place, code, failures)
    elif "websocket" in requests:
        run_websocket(requests, place)
    elif "combine" in requests or "shard" in requests:
        (request,) = requests.values()
        run_part(request, place, failures)
    elif not _SPLIT_STEPS.isdisjoint(requests):
        from components import split_sequence

        split_sequence.run_group(requests, place, code, failures)
    elif "describe" in requests:
        from components import describe

        describe.run(requests["describe"], place, code)
    elif len(requests) == 1:
        from components import secure_sequence

        (request,) = requests.values()
        secure_sequence.run_step(request, place, failures)
    else:
        raise UpdateError("UnknownGroup", f"no sequence for the steps {', '.join(requests)}")
