"""The updates of a round as the server finds them: reports, opened files, and who is to blame.

A client whose update is missing or wrong is named with a reason; nothing here ends a round.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from components.request import Place, Request
from components.update_file import Array, UpdateFile
from fedloom.algorithms.aggregation.source import Block, UpdateSource, check_source
from fedloom.algorithms.layout import Layout
from fedloom.artifacts import layout
from fedloom.artifacts.arrays import ArrayFile
from fedloom.errors import ArtifactError, ArtifactNotFoundError, JobError, UpdateError

Failures = dict[str, dict[str, str]]
Reports = dict[str, dict[str, Any]]
OpenFile = Callable[[Place, Mapping[str, Any], bool], ArrayFile]
_WHOLE_BYTES = 16 * 1024 * 1024  # of all updates that are held in memory together


class BadClients(Exception):
    """Clients found out while their updates were read: leave them out and combine again."""

    def __init__(self, clients: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(", ".join(clients))
        self.clients = clients


def reports_of(request: Request) -> Mapping[str, str]:
    """Give the key of every client's report: those of the task, or else of the whole cohort."""
    given: Mapping[str, str] | None = request.settings.get("reports")
    if given is not None:
        return given
    return {
        name: layout.report_key(request.round, name, request.attempt) for name in request.cohort
    }


def collect_reports(
    request: Request, place: Place, failures: Mapping[str, Mapping[str, str]]
) -> tuple[Reports, Mapping[str, Mapping[str, str]]]:
    """Read the report of every client that is not known to have failed and did send one.

    Give also who failed: those known, and those whose report says so, as where an engine cannot tell.
    """
    reports, told = {}, {}
    for client, key in sorted(reports_of(request).items()):
        if client not in failures:
            try:
                report = json.loads(place.store.get(key))
            except ArtifactNotFoundError:
                continue
            if "failure" in report:
                told[client] = _told_failure(report["failure"])
            else:
                reports[client] = report
    return reports, {**failures, **told} if told else failures


def _told_failure(failure: Any) -> dict[str, str]:
    """Read what a client says of its own failure; nobody has checked it."""
    said = failure if isinstance(failure, dict) else {}
    reason, message = (str(said.get(name) or "") for name in ("reason", "message"))
    return {"reason": reason[:100] or "Failed", "message": message[:2_000]}


def absent_clients(
    request: Request, reports: Mapping[str, Any], failures: Mapping[str, Mapping[str, str]]
) -> Failures:
    """Say why each client without a report has none."""
    unknown = {"reason": "NoUpdate", "message": "no update arrived before the round was closed"}
    return {
        client: dict(failures.get(client, unknown))
        for client in reports_of(request)
        if client not in reports
    }


def open_file(place: Place, report: Mapping[str, Any], is_small: bool) -> ArrayFile:
    """Open a verified update: a small one whole in memory, where it costs less than a file."""
    key, digest = report["update"]["key"], report["update"]["digest"]
    if is_small:
        return ArrayFile.from_bytes(place.store.get(key, digest=digest), key)
    return ArrayFile(place.store.materialize(key, place.work / "updates", digest=digest))


def open_updates(
    request: Request,
    place: Place,
    model: Layout,
    reports: Mapping[str, Mapping[str, Any]],
    stack: ExitStack,
    open_file: OpenFile = open_file,
) -> list[UpdateSource]:
    """Open and check the update of every client, in the order of their names; `stack` closes them.

    `open_file` gets the place, the client's report, and whether the update is to be held in memory.
    Raises BadClients with everyone whose file is missing, damaged or no update of such a model.
    """
    settings = request.settings
    sources: list[UpdateSource] = []
    bad = {}
    whole_bytes = _WHOLE_BYTES // max(1, len(reports))
    for client in sorted(reports):
        report = reports[client]
        is_small = report["uplink_bytes"] <= whole_bytes
        try:
            file = open_file(place, report, is_small)
            codec = settings["codec"], settings["codec_parameters"]
            source = UpdateFile(file, model, *codec, request.round)
            sources.append(_ClientSource(client, stack.enter_context(source)))
        except (ArtifactError, UpdateError) as error:
            bad[client] = (error.reason, error.message)
    if bad:
        raise BadClients(bad)
    return sources


def check_updates(clients: Sequence[str], sources: Sequence[UpdateSource], model: Layout) -> None:
    """Find every client with NaN or Inf before a rule that would outvote it without a word.

    Raises BadClients.
    """
    bad = {}
    for client, source in zip(clients, sources, strict=True):
        try:
            check_source(source, model)
        except UpdateError as error:
            bad[client] = (error.reason, error.message)
        except BadClients as found:
            bad |= found.clients
    if bad:
        raise BadClients(bad)


def who_is_not_finite(
    clients: Sequence[str], sources: Sequence[UpdateSource], block: Block
) -> BadClients | JobError:
    """Find whose NaN or Inf made this block of the result not finite: the error to raise."""
    bad = {}
    name, start = block.name, block.start
    scratch = np.empty_like(block.values)
    for client, source in zip(clients, sources, strict=True):
        if not np.isfinite(source.read(name, start, start + scratch.size, scratch)).all():
            bad[client] = ("NotFinite", f"tensor {name!r} of the update holds NaN or Inf")
    if bad:
        return BadClients(bad)
    return JobError(
        "ModelNotFinite", f"tensor {name!r} of the aggregated update overflows to NaN or Inf"
    )


class _ClientSource:
    """A client's update that says whose it is when it turns out to be wrong while it is read."""

    def __init__(self, client: str, update: UpdateFile) -> None:
        self._client = client
        self._update = update

    def read(self, name: str, start: int, stop: int, scratch: Array) -> Array:
        try:
            return self._update.read(name, start, stop, scratch)
        except (ArtifactError, UpdateError) as error:
            raise BadClients({self._client: (error.reason, error.message)}) from error
