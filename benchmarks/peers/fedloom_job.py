"""The job file of the Fedloom run: uncompressed FedAvg, every client in every round, MLflow on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peers import data_files

_TEST = "digits-test"
_MODEL = "digits-model"


def write_job(path: Path, data: Path, rounds: int) -> None:
    """Write the documents of a job over the files in `data` to `path`."""
    script = Path(__file__).with_name("fedloom_trainer.py")
    names = [data_files.client_name(client) for client in range(data_files.CLIENTS)]
    files = [data_files.client_file(data, client) for client in range(data_files.CLIENTS)]
    documents = [
        *(_dataset(name, file) for name, file in zip(names, files, strict=True)),
        _dataset(_TEST, data_files.test_file(data)),
        _document("Model", _MODEL, {"url": "output/model.safetensors", "format": "safetensors"}),
        _document("FederatedLearningJob", "digits", _job(names, script, rounds)),
    ]
    # JSON is YAML; a YAML library would be one more thing that the measuring program has loaded.
    path.write_text("\n---\n".join(json.dumps(document, indent=2) for document in documents))


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "sedna.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def _dataset(name: str, file: Path) -> dict[str, Any]:
    return _document("Dataset", name, {"url": str(file), "format": "npz", "nodeName": name})


def _job(names: list[str], script: Path, rounds: int) -> dict[str, Any]:
    def template() -> dict[str, Any]:
        container = {"name": "train", "image": "digits", "command": ["python", str(script)]}
        return {"spec": {"containers": [container]}}

    return {
        "rounds": rounds,
        "algorithm": {"name": "fedavg"},
        "aggregationWorker": {"model": {"name": _MODEL}, "template": template()},
        "trainingWorkers": [{"dataset": {"name": name}, "template": template()} for name in names],
        "evaluation": {"dataset": {"name": _TEST}},
        "output": {"model": {"name": _MODEL}, "registeredModel": "digits"},
    }
