"""What the tests of the Argo engine share: jobs, their plans, the setting of a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.decide import start_of
from controller.observed import Observed
from fedloom.api.documents import read_documents
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.validation import job_to_run
from fedloom.artifacts import layout
from pipelines.engines.argo import Owner, Setting
from pipelines.plan import Plan
from pipelines.rounds import RoundPlanner

REPOSITORY = Path(__file__).resolve().parents[2]
UID = "8c2f1a77-5b1e-4c0e-9f57-0c8d1f0a2b3c"
OWNER = Owner("sedna.io/v1alpha1", "FederatedLearningJob", "digits", UID)
DIGEST = "sha256:" + "0" * 64

Documents = list[dict[str, Any]]
Planned = Callable[..., Plan]


@pytest.fixture
def setting() -> Setting:
    """How the example's rounds run in a cluster."""
    return Setting(
        namespace="default",
        owner=OWNER,
        service_account="fedloom-worker",
        steps_image="fedloom/steps:0.1.0",
        store_uri="s3://fedloom/jobs/default/digits-8c2f1a77",
        store_endpoint="http://minio.minio.svc:9000",
        dispatcher_image="fedloom/controller:0.1.0",
        dispatcher_account="fedloom-dispatcher",
    )


@pytest.fixture
def example() -> Documents:
    """The documents of the example with three edges; a test may change them."""
    text = (REPOSITORY / "examples/05-on-a-cluster/job.yaml").read_text()
    # Through JSON, which has no aliases: changing one worker changes one worker.
    documents: Documents = json.loads(json.dumps(list(yaml.safe_load_all(text))))
    return documents


@pytest.fixture
def crowd(example: Documents) -> Callable[[int], Documents]:
    """Give the example with so many clients, all with the same template."""

    def documents(count: int) -> Documents:
        job, dataset = example[:2]
        template = job["spec"]["trainingWorkers"][0]["template"]
        names = [f"site-{number:04d}" for number in range(count)]
        job["spec"]["trainingWorkers"] = [
            {"dataset": {"name": n}, "template": template} for n in names
        ]
        datasets = []
        for name in names:
            spec = {**dataset["spec"], "url": f"/data/{name}/x.npz", "nodeName": f"edge-{name}"}
            datasets.append({**dataset, "metadata": {"name": name}, "spec": spec})
        return [job, *datasets, *example[4:]]

    return documents


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    """Plan a round of a job given by its documents."""

    def plan(documents: Documents, number: int = 1) -> Plan:
        # JSON is YAML, and a hundred times faster to write.
        path = tmp_path / "job.yaml"
        path.write_text("".join(f"---\n{json.dumps(each)}\n" for each in documents))
        read = read_documents([path])
        job = job_to_run(read)
        job = replace(job, metadata=replace(job.metadata, uid=UID))
        model = {"key": layout.model_key(max(0, number - 1)), "digest": DIGEST, "size_bytes": 0}
        # What a compressed way down has left behind; a job without one has no such state.
        has_downlink = "downlink" in documents[0]["spec"].get("compression", {})
        held = {"key": layout.state_key("broadcast", 0), "digest": DIGEST, "size_bytes": 0}
        state = {"broadcast": held} if has_downlink else {}
        before = {"round": number - 1, "model": model, "state": state}
        observed = Observed(last=before if number > 0 else None)
        planner = RoundPlanner(job, datasets_of(read, job), models_of(read, job))
        return planner.plan(start_of(job, observed, now=0.0))

    return plan
