"""What a step is asked to do, and where: the request (from the plan) and the place (from the engine)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedloom.artifacts.store import Store


@dataclass(frozen=True)
class Request:
    """One task of a plan as its step sees it.

    Attributes:
        job: `namespace`, `name` and `uid`.
        round: 0 for initialize.
        rounds: of the job.
        attempt: which try of the round, from 1.
        step: name of the step.
        client: id of the client; None for steps of the server.
        inputs: name -> {`key`, `digest`} of artifacts in the job's store.
        outputs: name -> key in the job's store.
        settings: the step's own parameters, plain JSON values.
        cohort: the clients of the attempt, sorted.
    """

    job: Mapping[str, str]
    round: int
    rounds: int
    attempt: int
    step: str
    client: str | None
    inputs: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, str]
    settings: Mapping[str, Any]
    cohort: Sequence[str] = ()

    @classmethod
    def of(cls, plan: Mapping[str, Any], task: Mapping[str, Any]) -> Request:
        """Take the request of one task out of a plan document."""
        return cls(
            job=plan["job"],
            round=plan["round"],
            rounds=plan["rounds"],
            attempt=plan["attempt"],
            step=task["step"],
            client=task["client"],
            inputs=task["inputs"],
            outputs=task["outputs"],
            settings=_settings(plan, task),
            cohort=plan.get("cohort", ()),
        )


def _settings(plan: Mapping[str, Any], task: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the presigned URLs of what the task downloads, which are no part of the plan."""
    settings: Mapping[str, Any] = task["settings"]
    if "downloads" not in settings or "urls" not in plan:
        return settings
    return {**settings, "signed": plan["urls"].get("signed", {})}


@dataclass(frozen=True)
class Place:
    """Where a step runs.

    Attributes:
        store: the job's artifacts.
        work: a scratch folder; tasks of one group share it.
        memory: a scratch folder for small files, in memory where the system offers that.
        edge: folder of edge state, one sub-folder per client; never leaves the node.
        base: relative paths of the job start here (the folder of its YAML).
        logs: a file per client with what its programs printed.
        node: folder of what outlives the job on its node; None where no step needs it.
        keys: variables with the keys of the job's S3, for programs of Sedna jobs and for nobody else.
    """

    store: Store
    work: Path
    memory: Path
    edge: Path
    base: Path
    logs: Path
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    node: Path | None = None
