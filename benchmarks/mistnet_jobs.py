"""The same detector as two jobs: MistNet in one round, and federated averaging of the whole network in many.

    python benchmarks/mistnet_jobs.py [--rounds 30] [--seed 1]

Both run by `fedloom run`, with the scripts of example 06, on the same pictures of two edges, from the same
pretrained network (that of `mistnet.py`, which is made where it is not there yet). Bytes are what each job itself counts
for its clients; precision is that of its last evaluation, on 128 pictures that no edge has. Prints a table and
writes `benchmarks/results/mistnet_jobs.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mistnet_sections
from mistnet import WORK
from mistnet_place import EXAMPLE, FULL, QUICK, Place, pretrain
from peers import provenance

from fedloom.data.folder import labels_path

RESULT = Path(__file__).resolve().parent / "results/mistnet_jobs.json"
_COMMON = {"batchSize": 16, "device": "cpu"}
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
Document = dict[str, Any]


def main() -> None:
    options = _options()
    place = Place(WORK / ("quick" if options.quick else "full"), QUICK if options.quick else FULL)
    pretrain(place)
    about = provenance.describe(("fedloom", "numpy", "torch"))
    jobs = {}
    for name, document in documents(options.rounds, options.epochs).items():
        with tempfile.TemporaryDirectory(prefix="fedloom-detector-") as folder:
            lay_out(Path(folder), place, options.seed, document)
            jobs[name] = run(Path(folder))
        print(f"{name}: {jobs[name]}", file=sys.stderr, flush=True)
    result = {"benchmark": "mistnet_jobs", **about, "seed": options.seed, "jobs": jobs}
    print(mistnet_sections.jobs(result))
    if not options.quick:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


def documents(rounds: int, epochs: int) -> dict[str, Document]:
    """Give the part of each job that is its own."""
    return {
        "MistNet, epsilon 2": {
            "script": "train_mistnet.py",
            "rounds": 1,
            "algorithm": {"name": "mistnet", "parameters": {"cutLayer": 4, "epsilon": 2}},
            "hyperparameters": {**_COMMON, "epochs": epochs},
            "evaluation": {"dataset": {"name": "held-out"}},
        },
        "federated averaging": {
            "script": "train_fedavg.py",
            "rounds": rounds,
            "algorithm": {"name": "fedavg"},
            "hyperparameters": {**_COMMON, "epochs": 1, "learningRate": 0.001},
            "evaluation": {"dataset": {"name": "held-out"}, "everyRounds": 5},
        },
    }


def lay_out(folder: Path, place: Place, seed: int, own: Document) -> None:
    """Write the job's documents, and lay beside them what they name."""
    script = own.pop("script")
    shutil.copy(EXAMPLE / script, folder)
    shutil.copytree(EXAMPLE / "detector", folder / "detector")
    shutil.copy(place.pretrained, folder)
    names = ("edge-1", "edge-2", "held-out")
    for name, home in zip(names, place.homes(seed), strict=True):
        shutil.copytree(home, folder / name)
    only_tests(folder / "held-out", place.scale.tests)
    command = ["python", script]
    container = {"name": "train", "image": "detector:1", "command": command}
    template = {"spec": {"containers": [container]}}
    spec = {
        **own,
        "participation": {"minClients": 2, "seed": 1},
        "pretrainedModel": {"name": "first"},
        "aggregationWorker": {"model": {"name": "made"}, "template": template},
        "trainingWorkers": [{"dataset": {"name": n}, "template": template} for n in names[:2]],
    }
    found = [_document("FederatedLearningJob", "detector", spec)]
    found += [
        _document("Dataset", name, {"url": name, "format": "dir", "nodeName": name})
        for name in names
    ]
    models = {"first": place.pretrained.name, "made": "made.safetensors"}
    found += [
        _document("Model", name, {"url": url, "format": "safetensors"})
        for name, url in models.items()
    ]
    (folder / "job.yaml").write_text("\n---\n".join(json.dumps(each) for each in found))


def only_tests(home: Path, count: int) -> None:
    """Take away the pictures by which `mistnet.py` chooses: precision is told on the others."""
    for path in sorted((home / "coco128/images").glob("*/*"))[count:]:
        labels_path(path).unlink(missing_ok=True)
        path.unlink()


def run(folder: Path) -> Document:
    """Run a job to its end; give its figures. Raises CalledProcessError where it fails."""
    fedloom = str(Path(sys.executable).with_name("fedloom"))
    command = [fedloom, "run", "-f", "job.yaml", "-o", "json", "--parallel", "2"]
    started = time.perf_counter()
    outcome = subprocess.run(
        command, cwd=folder, env={**os.environ, **_ONE_THREAD}, stdout=subprocess.PIPE, check=True
    )
    seconds = time.perf_counter() - started
    events = [json.loads(line) for line in outcome.stdout.splitlines()]
    rounds = [event for event in events if event["event"] == "round"]
    tried = [event["metrics"] for event in rounds if "mAP50" in event["metrics"]]
    return {
        "rounds": len(rounds),
        "seconds": round(seconds, 1),
        "uplink_bytes": sum(event["traffic"]["uplink_bytes"] for event in rounds),
        "downlink_bytes": sum(event["traffic"]["downlink_bytes"] for event in rounds),
        "images": sum(c["num_examples"] for c in rounds[-1]["clients"].values()),
        "mAP50": tried[-1]["mAP50"],
        "tried": [round(metrics["mAP50"], 4) for metrics in tried],
        "metrics": tried[-1],
    }


def _document(kind: str, name: str, spec: Document) -> Document:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "sedna.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="of federated averaging")
    parser.add_argument("--epochs", type=int, default=30, help="of MistNet's tail")
    parser.add_argument("--seed", type=int, default=1, help="of the private pictures")
    parser.add_argument("--quick", action="store_true", help="few pictures; nothing is written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
