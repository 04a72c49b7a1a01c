"""aggregate (cloud): stream the accepted updates of a round into the next global model.

Updates are opened, checked against the model and folded block by block in the order of the clients'
names, so the memory is one block per client and the result does not depend on who answered first. A
client whose update is missing or wrong is named and left out; fewer than `min_clients` end the attempt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from components.command import run_command
from components.next_model import NextModel
from components.request import Place, Request
from components.update_file import Array, UpdateFile
from fedloom.algorithms.aggregation.registry import aggregator
from fedloom.algorithms.aggregation.source import UpdateSource, check_source
from fedloom.algorithms.aggregation.weights import example_weights
from fedloom.algorithms.layout import Layout, TensorSpec
from fedloom.algorithms.optimizers.registry import server_optimizer
from fedloom.artifacts.arrays import ArrayFile
from fedloom.artifacts.artifact import Artifact
from fedloom.errors import ArtifactError, ArtifactNotFoundError, JobError, UpdateError

Failures = dict[str, dict[str, str]]
_WHOLE_BYTES = 16 * 1024 * 1024  # of all updates that are held in memory together


@dataclass
class Aggregated:
    """What came of a round's updates.

    Attributes:
        reports: client -> its report, for every client whose update went into the model.
        failures: client -> {`reason`, `message`} for every other client of the cohort.
        model: the new global model; None when fewer than `min_clients` updates were good.
        states: name -> state artifact of the server optimizer.
    """

    reports: dict[str, dict[str, Any]]
    failures: Failures
    model: Artifact | None = None
    states: dict[str, Artifact] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """Give it as plain JSON values, for `commit` in another process."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Aggregated:
        """Take it back out of its document."""
        model, states = document["model"], document["states"]
        return cls(
            reports=document["reports"],
            failures=document["failures"],
            model=None if model is None else Artifact(**model),
            states={name: Artifact(**state) for name, state in states.items()},
        )


def run(
    request: Request,
    place: Place,
    failures: Mapping[str, Mapping[str, str]],
    *,
    is_durable: bool = True,
) -> Aggregated:
    """Aggregate the round's updates.

    `failures` are the clients that the engine already knows to have failed; `is_durable` says
    whether the model must outlive a loss of power when this returns.
    """
    reports = _collect_reports(request, place, failures)
    found = Aggregated(reports, _absent(request, reports, failures))
    model = request.inputs["model"]
    path = place.store.materialize(model["key"], place.work / "models", digest=model["digest"])
    with ArrayFile(path) as base:
        while len(found.reports) >= request.settings["min_clients"]:
            try:
                _fold(request, place, base, found, is_durable)
            except _BadClients as bad:
                for client, (reason, message) in bad.clients.items():
                    found.reports.pop(client)
                    found.failures[client] = {"reason": reason, "message": message}
            else:
                break
    return found


class _BadClients(Exception):
    """Clients found out while their updates were read: leave them out and fold again."""

    def __init__(self, clients: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(", ".join(clients))
        self.clients = clients


def _collect_reports(
    request: Request, place: Place, failures: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, Any]]:
    reports = {}
    for client, key in sorted(request.settings["reports"].items()):
        if client not in failures:
            try:
                reports[client] = json.loads(place.store.get(key))
            except ArtifactNotFoundError:
                continue
    return reports


def _absent(
    request: Request, reports: Mapping[str, Any], failures: Mapping[str, Mapping[str, str]]
) -> Failures:
    unknown = {"reason": "NoUpdate", "message": "no update arrived before the round was closed"}
    return {
        client: dict(failures.get(client, unknown))
        for client in request.settings["reports"]
        if client not in reports
    }


def _fold(
    request: Request, place: Place, base: ArrayFile, found: Aggregated, is_durable: bool
) -> None:
    layout = {name: TensorSpec(info.shape, info.dtype) for name, info in base.tensors.items()}
    clients = sorted(found.reports)
    with ExitStack() as stack:
        sources = _open_updates(request, place, layout, found, stack)
        weights = example_weights([found.reports[c]["num_examples"] for c in clients])
        algorithm, parameters = request.settings["algorithm"], request.settings["parameters"]
        rule = aggregator(algorithm, parameters)
        if not rule.shows_bad_values:
            _check_updates(clients, sources, layout)
        optimizer = server_optimizer(algorithm, parameters)
        writer = stack.enter_context(NextModel(request, place, layout, optimizer))
        for block in rule.aggregate(sources, weights, layout):
            if not np.isfinite(block.values).all():
                raise _not_finite(clients, sources, block.name, block.start, block.values)
            writer.step(base, block.name, block.start, block.values)
        found.model, found.states = writer.store(is_durable=is_durable)


def _open_updates(
    request: Request, place: Place, layout: Layout, found: Aggregated, stack: ExitStack
) -> list[UpdateSource]:
    settings = request.settings
    sources: list[UpdateSource] = []
    bad = {}
    whole_bytes = _WHOLE_BYTES // max(1, len(found.reports))
    for client in sorted(found.reports):
        report = found.reports[client]
        is_small = report["uplink_bytes"] <= whole_bytes
        try:
            file = _open_file(place, report["update"], is_small)
            source = UpdateFile(file, layout, settings["codec"], settings["codec_parameters"])
            sources.append(_ClientSource(client, stack.enter_context(source)))
        except (ArtifactError, UpdateError) as error:
            bad[client] = (error.reason, error.message)
    if bad:
        raise _BadClients(bad)
    return sources


def _open_file(place: Place, update: Mapping[str, Any], is_small: bool) -> ArrayFile:
    """Open a verified update: a small one whole in memory, where it costs less than a file."""
    key, digest = update["key"], update["digest"]
    if is_small:
        return ArrayFile.from_bytes(place.store.get(key, digest=digest), key)
    return ArrayFile(place.store.materialize(key, place.work / "updates", digest=digest))


class _ClientSource:
    """A client's update that says whose it is when it turns out to be wrong while it is read."""

    def __init__(self, client: str, update: UpdateFile) -> None:
        self._client = client
        self._update = update

    def read(self, name: str, start: int, stop: int, scratch: Array) -> Array:
        try:
            return self._update.read(name, start, stop, scratch)
        except (ArtifactError, UpdateError) as error:
            raise _BadClients({self._client: (error.reason, error.message)}) from error


def _check_updates(clients: Sequence[str], sources: Sequence[UpdateSource], layout: Layout) -> None:
    """Find every client with NaN or Inf before a rule that would outvote it without a word."""
    bad = {}
    for client, source in zip(clients, sources, strict=True):
        try:
            check_source(source, layout)
        except UpdateError as error:
            bad[client] = (error.reason, error.message)
        except _BadClients as found:
            bad |= found.clients
    if bad:
        raise _BadClients(bad)


def _not_finite(
    clients: Sequence[str], sources: Sequence[UpdateSource], name: str, start: int, mean: Array
) -> Exception:
    bad = {}
    scratch = np.empty_like(mean)
    for client, source in zip(clients, sources, strict=True):
        if not np.isfinite(source.read(name, start, start + mean.size, scratch)).all():
            bad[client] = ("NotFinite", f"tensor {name!r} of the update holds NaN or Inf")
    if bad:
        return _BadClients(bad)
    return JobError(
        "ModelNotFinite", f"tensor {name!r} of the aggregated update overflows to NaN or Inf"
    )


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Aggregate what is in the store; too few updates are no failure of this step: commit says so."""
    place.work.mkdir(parents=True, exist_ok=True)
    found = run(request, place, {}).to_document()
    (place.work / "aggregated.json").write_text(json.dumps(found))
    return {
        "accepted": sorted(found["reports"]),
        "failures": found["failures"],
        "model": found["model"],
    }


if __name__ == "__main__":
    run_command("aggregate", _run_as_command)
