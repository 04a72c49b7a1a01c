"""What a run really leaves behind is what the page reads."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from controller.embedded.run import Order, run_embedded
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run

SCRIPT = """
import numpy as np
import fedloom

class Count:
    def __init__(self, client):
        self.client = client

    @staticmethod
    def initialize(seed):
        return {"w": np.zeros((20, 50), np.float32)}

    def train(self, model, context):
        if self.client.name == "c" and context.number == 2:
            raise RuntimeError("<b>no power</b>")
        model["w"] += 1
        return fedloom.Update(model, num_examples=10, metrics={"loss": 1.0 / context.number})

    def evaluate(self, model, context):
        return fedloom.Evaluation(num_examples=5, metrics={"accuracy": float(model["w"].mean()) / 10})

fedloom.main(Count)
"""


def job_in(folder):
    """Write a job of three clients and two rounds; give its documents."""
    container = {"name": "train", "image": "x", "command": ["python", "train.py"]}
    template = {"spec": {"containers": [container]}}
    clients = [{"dataset": {"name": name}, "template": template} for name in "abc"]
    spec = {
        "rounds": 2,
        "compression": {"uplink": {"codec": "int8"}},
        "participation": {"minClients": 2},
        "evaluation": {"dataset": {"name": "held-out"}},
        "aggregationWorker": {"model": {"name": "out"}, "template": template},
        "trainingWorkers": clients,
    }
    datasets = ["a", "b", "c", "held-out"]
    for name in datasets:
        (folder / f"{name}.txt").write_text("1")
    (folder / "train.py").write_text(SCRIPT)
    documents = [
        ("FederatedLearningJob", "count", spec),
        ("Model", "out", {"url": "out.safetensors", "format": "safetensors"}),
        *(
            ("Dataset", name, {"url": f"{name}.txt", "format": "txt", "nodeName": name})
            for name in datasets
        ),
    ]
    text = "\n---\n".join(
        json.dumps(
            {
                "apiVersion": "sedna.io/v1alpha1",
                "kind": kind,
                "metadata": {"name": name},
                "spec": part,
            }
        )
        for kind, name, part in documents
    )
    (folder / "job.yaml").write_text(text)
    return read_documents([folder / "job.yaml"])


def test_a_run_with_a_failing_client_is_reported_as_it_was(folder, tmp_path):
    documents = job_in(tmp_path)
    job = job_to_run(documents)
    events = []
    order = Order(documents, job, folder.root, parallel=2, is_tracked=False)
    assert run_embedded(order, events.append).phase == "Succeeded"
    page = folder.report()
    model = events[-1]["model"]
    assert urlsplit(model["uri"]).path in page
    assert model["digest"] in page
    for words in (
        "default/count",
        "2 of 2 rounds done",
        "1,000 parameters",
        "round 1: evaluation 0.1000",
        "evaluation 0.2000",
        "round 2: up",
        "round 1, c: train",
        "round 1, a: compress",
        "round 2, server: aggregate",
        "round 2, server: evaluate",
        "round 2: succeeded 2, failed 1",
        "&lt;b&gt;no power&lt;/b&gt;",
        "times less",
    ):
        assert words in page, words
    assert "round 2, c: train" not in page
