"""The bodies of the link: what Sedna's workers post, what a local controller passes on, what it counted.

Checked by hand, not by the API's reader: a newer peer may say more, and what is not known is passed over.
Every problem is found and named by its field. Times are the sender's own: shown to people, used for nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedloom.errors import InvalidJobError, Problem

JOBS, DATASETS = "federatedlearningjobs", "datasets"
RESOURCES = {JOBS: "FederatedLearningJob", DATASETS: "Dataset"}
OWNER_KINDS = ("federatedlearningjob", "default")
"""`default` is what Sedna's own library sends since 0.3, though it means the former."""

WORKERS_ANNOTATION = "fedloom.io/workers"
"""On the copy of a job that a node gets: the names of the workers that may run there, as JSON."""

MESSAGE_HEADER = "Fedloom-Message"
"""`<name of the node's database>/<sequence>`: which message this is, whenever it is sent again."""

_MOST_METRICS = 256
_LONGEST_TEXT = 1024
_MOST_ROUNDS = 2**31 - 1
_MOST_SAMPLES = 2**53


@dataclass(frozen=True)
class ModelReport:
    """One model that a worker made; metrics as texts."""

    format: str
    url: str
    metrics: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """What a worker says of its work; `round` is 0 and `samples` None where it did not say."""

    phase: str
    status: str
    round: int = 0
    samples: int | None = None
    time: str = ""
    models: tuple[ModelReport, ...] = ()
    worker: str = ""
    node: str = ""
    job_uid: str = ""
    merged: int = 0


@dataclass(frozen=True)
class WorkerInfo:
    """Sedna's body of `POST /sedna/workers/<name>/info`; `message` is what is passed on of it."""

    name: str
    namespace: str
    job: str
    message: Mapping[str, Any]


class _Reading:
    """Reads fields of one body and remembers what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def mapping(self, value: Any, where: str) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._wrong(where, value, "a mapping")
            return {}
        return value

    def text(self, value: Any, where: str, *, required: bool = False) -> str:
        if value is None and not required:
            return ""
        if not isinstance(value, str) or (required and not value):
            self._wrong(where, value, "a text")
            return ""
        if len(value) > _LONGEST_TEXT:
            self.problems.append(
                Problem(where, f"got {len(value)} characters, expected at most {_LONGEST_TEXT}")
            )
        return "".join(c if c.isprintable() else " " for c in value[:_LONGEST_TEXT])

    def number(self, value: Any, where: str, most: int) -> int | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            self._wrong(where, value, f"an integer from 0 to {most}")
            return None
        return value

    def models(self, value: Any, where: str) -> tuple[ModelReport, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            self._wrong(where, value, "a list")
            return ()
        found = []
        for index, each in enumerate(value[:_MOST_METRICS]):
            here = f"{where}[{index}]"
            model = self.mapping(each, here)
            metrics = self._metrics(model.get("metrics"), f"{here}.metrics")
            kind = self.text(model.get("format"), f"{here}.format")
            found.append(ModelReport(kind, self.text(model.get("url"), f"{here}.url"), metrics))
        return tuple(found)

    def _metrics(self, value: Any, where: str) -> dict[str, str]:
        given = self.mapping(value, where)
        if len(given) > _MOST_METRICS:
            message = f"got {len(given)} metrics, expected at most {_MOST_METRICS}"
            self.problems.append(Problem(where, message))
            return {}
        return {
            self.text(name, where, required=True): self._metric(metric, f"{where}.{name}"[:200])
            for name, metric in given.items()
        }

    def _metric(self, value: Any, where: str) -> str:
        if isinstance(value, Mapping):
            self._wrong(where, value, "a number")
            return ""
        if isinstance(value, float):
            return f"{value:.6g}" if math.isfinite(value) else str(value)
        return self.text(value if isinstance(value, str) else json.dumps(value), where)

    def finish(self) -> None:
        if self.problems:
            raise InvalidJobError(self.problems)

    def _wrong(self, where: str, value: Any, expected: str) -> None:
        got = "nothing" if value is None else type(value).__name__
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            got = repr(value)[:80]
        self.problems.append(Problem(where, f"got {got}, expected {expected}"))


def read_progress(body: Any) -> Progress:
    """Read a WorkerMessage, with `jobInfo` (the proposal) or `ownerInfo` (what Sedna really sends).

    Raises InvalidJobError with every problem.
    """
    reading = _Reading()
    document = reading.mapping(_object(body), "")
    output = reading.mapping(document.get("output"), "output")
    key = "jobInfo" if output.get("jobInfo") is not None else "ownerInfo"
    info = reading.mapping(output.get(key), f"output.{key}")
    where = f"output.{key}."
    found = Progress(
        phase=reading.text(document.get("phase"), "phase"),
        status=reading.text(document.get("status"), "status"),
        round=reading.number(info.get("currentRound"), where + "currentRound", _MOST_ROUNDS) or 0,
        samples=reading.number(info.get("sampleCount"), where + "sampleCount", _MOST_SAMPLES),
        time=reading.text(info.get("updateTime"), where + "updateTime"),
        models=reading.models(output.get("models"), "output.models"),
        worker=reading.text(document.get("name"), "name"),
        node=reading.text(document.get("nodeName"), "nodeName"),
        job_uid=reading.text(document.get("jobUid"), "jobUid"),
        merged=reading.number(document.get("merged"), "merged", _MOST_ROUNDS) or 0,
    )
    reading.finish()
    return found


def read_worker_info(body: Any, name: str) -> WorkerInfo:
    """Read what a worker posts; `name` is the path's. Raises InvalidJobError with every problem."""
    reading = _Reading()
    document = reading.mapping(_object(body), "")
    given = reading.text(document.get("name"), "name", required=True)
    if given and given != name:
        reading.problems.append(
            Problem("name", f"got {given!r}, expected {name!r}, as in the path")
        )
    kind = reading.text(document.get("ownerKind"), "ownerKind", required=True)
    if kind and kind not in OWNER_KINDS:
        expected = " or ".join(OWNER_KINDS)
        reading.problems.append(Problem("ownerKind", f"got {kind!r}, expected {expected}"))
    message = {
        "phase": reading.text(document.get("kind"), "kind"),
        "status": reading.text(document.get("status"), "status"),
        "output": {
            "models": document.get("results") or [],
            "ownerInfo": document.get("ownerInfo") or {},
        },
        "name": name,
    }
    info = WorkerInfo(
        name=given,
        namespace=reading.text(document.get("namespace"), "namespace", required=True),
        job=reading.text(document.get("ownerName"), "ownerName", required=True),
        message=message,
    )
    try:
        read_progress(message)
    except InvalidJobError as error:
        reading.problems += [
            Problem(
                each.field.replace("output.models", "results").replace("output.", ""), each.message
            )
            for each in error.problems
        ]
    reading.problems = list(dict.fromkeys(reading.problems))
    reading.finish()
    return info


def read_count(body: Any) -> tuple[int, str]:
    """Read a Dataset's count: the number and the node's own time. Raises InvalidJobError."""
    reading = _Reading()
    document = reading.mapping(_object(body), "")
    where = "numberOfSamples"
    samples = reading.number(document.get(where), where, _MOST_SAMPLES)
    time = reading.text(document.get("updateTime"), "updateTime")
    if samples is None and not reading.problems:
        reading.problems.append(Problem(where, "got nothing, expected an integer"))
    reading.finish()
    return samples or 0, time


def version_of(document: Mapping[str, Any]) -> str:
    """Name what a document says."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _object(body: Any) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        got = "nothing" if body is None else type(body).__name__
        raise InvalidJobError([Problem("", f"the body: got {got}, expected a JSON object")])
    return body
