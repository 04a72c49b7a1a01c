"""`fedloom compile`: a round's plan as an engine would get it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from controller.decide import start_of
from controller.observed import Observed
from fedloom.api.documents import read_documents, render_documents
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.validation import job_to_run
from fedloom.artifacts import layout
from pipelines.rounds import RoundPlanner

_UNKNOWN_DIGEST = "sha256:" + "0" * 64


def compile_round(files: Sequence[Path], engine: str, number: int) -> str:
    """Give the plan of round `number` as YAML.

    Digests and sizes of earlier rounds are known only when they have run: they are zero here.
    """
    del engine  # one so far: the local engine takes the plan as it is
    documents = read_documents(files)
    job = job_to_run(documents)
    before = {
        "round": number - 1,
        "model": {
            "key": layout.model_key(max(0, number - 1)),
            "digest": _UNKNOWN_DIGEST,
            "size_bytes": 0,
        },
        "state": {},
    }
    observed = Observed(last=before if number > 0 else None)
    planner = RoundPlanner(job, datasets_of(documents, job), models_of(documents, job))
    return render_documents([planner.plan(start_of(job, observed, now=0.0)).to_document()])
