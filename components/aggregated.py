"""What came of a round's updates: who is in the model, who is not and why, and the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from components.request import Place
from components.updates import BadClients, Failures, Reports
from fedloom.artifacts.artifact import Artifact


@dataclass
class Aggregated:
    """What came of a round's updates, or of those that one of several tasks has combined.

    Attributes:
        reports: client -> its report, for every client whose update went into the model.
        failures: client -> {`reason`, `message`} for every other client of the cohort.
        model: the new global model; None when fewer than `min_clients` updates were good.
        states: name -> state artifact of the server optimizer, and of privacy.
        privacy: what the round promises; None where the job has nothing about privacy.
        metrics: what a program that combines updates itself said about the round.
        inner: of the rounds inside the round, where it has some: their clients and models.
        tail: what the training of a mistnet job's tail measured.
        disclosure: where its privacy report is and what it says; None for other jobs.
    """

    reports: Reports
    failures: Failures
    model: Artifact | None = None
    states: dict[str, Artifact] = field(default_factory=dict)
    privacy: dict[str, Any] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    inner: list[dict[str, Any]] | None = None
    tail: dict[str, float] = field(default_factory=dict)
    disclosure: dict[str, Any] | None = None

    def drop(self, bad: BadClients) -> None:
        """Leave out clients whose updates turned out to be wrong."""
        for client, (reason, message) in bad.clients.items():
            self.reports.pop(client)
            self.failures[client] = {"reason": reason, "message": message}

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
            privacy=document["privacy"],
            metrics=document["metrics"],
            inner=document["inner"],
            tail=document["tail"],
            disclosure=document["disclosure"],
        )

    @classmethod
    def joined(cls, parts: Iterable[Aggregated]) -> Aggregated:
        """Take together what several tasks found: who failed for one of them has failed."""
        parts = list(parts)
        failures = {client: why for part in parts for client, why in part.failures.items()}
        reports = {
            client: report
            for part in parts
            for client, report in part.reports.items()
            if client not in failures
        }
        return cls(reports, failures)


def read_parts(place: Place, keys: Iterable[str]) -> list[Aggregated]:
    """Read what other tasks of the plan found; they have ended."""
    return [Aggregated.of(json.loads(place.store.get(key))) for key in keys]


def write_part(place: Place, key: str, found: Aggregated) -> None:
    """Tell the task behind this one: from here on it may use what this one stored."""
    place.store.put(key, json.dumps(found.to_document()).encode(), replace=True)
