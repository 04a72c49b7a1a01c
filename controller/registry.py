"""The search in MLflow's registry, in a process of its own: loading MLflow takes seconds, its calls block."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.sources import ABSENT, NOT_FOUND, READY, REGISTRY_DOWN, Looked
from fedloom.api.job import FederatedLearningJob
from fedloom.api.transfer import TransferSource, source_name

_LONGEST_SECONDS = 120.0


def search(
    tracking_uris: Sequence[str],
    wanted: Sequence[TransferSource],
    folder: Path,
    job: FederatedLearningJob,
) -> list[Looked]:
    """Ask for every entry, and wait for the answer; models that are found come into `folder`.

    Nothing is raised: a registry that does not answer is an absent source.
    """
    order = order_of(tracking_uris, wanted, folder, job)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "components.search_registry"],
            input=json.dumps(order).encode(),
            capture_output=True,
            timeout=_LONGEST_SECONDS,
            check=False,
        )
        answers = json.loads(done.stdout)["answers"]
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
        problem = f"the search did not end well: {type(error).__name__}"
        answers = [{"problem": problem} for _ in wanted]
    return [looked(source, answer) for source, answer in zip(wanted, answers, strict=True)]


def order_of(
    tracking_uris: Sequence[str],
    wanted: Sequence[TransferSource],
    folder: Path,
    job: FederatedLearningJob,
) -> dict[str, Any]:
    """Give what the search process is told."""
    return {
        "tracking_uris": list(tracking_uris),
        "folder": str(folder),
        "namespace": job.metadata.namespace,
        "own_uid": job.metadata.uid,
        "wanted": [_entry(source) for source in wanted],
    }


def _entry(source: TransferSource) -> dict[str, Any]:
    search = source.registry
    return {
        "name": source.registered_model,
        "version": source.version,
        "alias": source.alias,
        "tags": dict(search.tags) if search is not None else {},
        "like": search.name if search is not None else None,
    }


def looked(source: TransferSource, answer: Mapping[str, Any]) -> Looked:
    """Read the answer to one entry."""
    name = source_name(source)
    if "problem" in answer:
        return Looked(name, ABSENT, REGISTRY_DOWN, str(answer["problem"]))
    if not answer["candidates"]:
        message = str(answer.get("message") or "nothing was found")
        return Looked(name, ABSENT, NOT_FOUND, message)
    return Looked(name, READY, candidates=tuple(answer["candidates"]))
