"""What a round costs a V1-style Sedna script: five million parameters, two workers, one machine.

    python benchmarks/sedna_round.py [--parameters 5000000] [--rounds 8] [--repeat 3]

The script has only `sedna.*` imports and an estimator whose training is one addition, so that what is
measured is everything else: starting the script for each worker, the global model in, the update out, its
check, the mean, the commit. The job is one that Sedna would take: aggregation worker, training workers,
datasets, model; its rounds come from the aggregating script.

Held against what Sedna's own library took for the same shape of job: 20 s for a round of 0.7 M parameters
with two workers on two cores, without training, in proportion to the parameters (it ends with an error at 0.9
M, so nothing larger was measured); 21.9 bytes for a parameter up and 22.5 down.

- **round**: median time between two rounds' lines, of each repetition.
- **bytes per parameter**: of one worker in one round, as the job itself counts them.

Exit code 1 where a worker fails or the ratio is below 20. Writes `benchmarks/results/sedna_round.json`,
except with other than the standard number of parameters.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from peers import provenance

_RESULT = Path(__file__).resolve().parent / "results" / "sedna_round.json"
_STANDARD = 5_000_000
_WORKERS = 2
_V1_SECONDS_PER_PARAMETER = 20 / 0.7e6
_V1_BYTES = {"uplink": 21.9, "downlink": 22.5}
_GOAL = 20
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}

_TRAIN = """
import numpy as np
from sedna.common.config import BaseConfig
from sedna.core.federated_learning import FederatedLearning
from sedna.datasources import TxtDataParse

class Estimator:
    def __init__(self):
        shapes = [(LARGE // 1000, 500), (LARGE // 1000, 500)]
        self.weights = [np.zeros(shape, np.float32) for shape in shapes]
    def train(self, train_data, valid_data=None):
        for weight in self.weights:
            weight += np.float32(0.001) * len(train_data)
        return {"loss": 1.0}
    def get_weights(self):
        return self.weights
    def set_weights(self, weights):
        self.weights = weights

data = TxtDataParse(data_type="train")
data.parse(BaseConfig.train_dataset_url)
FederatedLearning(estimator=Estimator, aggregation="FedAvg").train(train_data=data)
"""
_AGGREGATE = """
from sedna.service.server import AggregationServer
AggregationServer(aggregation="FedAvg", exit_round=ROUNDS, participants_count=2).start()
"""
_JOB = """
apiVersion: sedna.io/v1alpha1
kind: FederatedLearningJob
metadata: {name: sedna-round}
spec:
  aggregationWorker:
    model: {name: made}
    template: {spec: {containers: [{name: agg, image: agg:1, command: [python, aggregate.py]}]}}
  trainingWorkers:
"""
_WORKER = """\
    - dataset: {name: data-%d}
      template: {spec: {containers: [{name: train, image: train:1, command: [python, train.py]}]}}
"""
_DATASET = """---
apiVersion: sedna.io/v1alpha1
kind: Dataset
metadata: {name: data-%d}
spec: {url: data-%d.txt, format: txt, nodeName: edge-%d}
"""
_MODEL = """---
apiVersion: sedna.io/v1alpha1
kind: Model
metadata: {name: made}
spec: {url: made.safetensors, format: safetensors}
"""


def main() -> int:
    """Measure, print and write; give the exit code."""
    arguments = _read_arguments()
    origin = provenance.describe(("fedloom", "numpy", "mlflow"))
    runs = []
    for number in range(arguments.repeat):
        with tempfile.TemporaryDirectory(prefix="sedna-") as folder:
            _write_job(Path(folder), arguments.parameters, arguments.rounds)
            runs.append(_run(Path(folder)))
        print(f"run {number + 1}: {arguments.rounds} rounds", file=sys.stderr, flush=True)
    measured = _figures(runs, arguments.parameters)
    print(_told(measured, arguments))
    if arguments.parameters == _STANDARD:
        document = {"benchmark": "sedna_round", **origin, "workers": _WORKERS, **vars(arguments)}
        _RESULT.write_text(json.dumps(document | measured, indent=2) + "\n")
    return 0 if measured["ratio"] >= _GOAL else 1


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parameters", type=int, default=_STANDARD)
    parser.add_argument("--rounds", type=int, default=8, help="of a run (default: 8)")
    parser.add_argument("--repeat", type=int, default=3, help="runs (default: 3)")
    arguments = parser.parse_args()
    if arguments.rounds < 3 or arguments.repeat < 1 or arguments.parameters % 1000:
        parser.error("expected at least 3 rounds, 1 run, and parameters in thousands")
    return arguments


def _write_job(folder: Path, parameters: int, rounds: int) -> None:
    (folder / "train.py").write_text(_TRAIN.replace("LARGE", str(parameters)))
    (folder / "aggregate.py").write_text(_AGGREGATE.replace("ROUNDS", str(rounds)))
    numbers = range(_WORKERS)
    for number in numbers:
        (folder / f"data-{number}.txt").write_text("sample 1\n" * (number + 1))
    workers = "".join(_WORKER % number for number in numbers)
    datasets = "".join(_DATASET % (number, number, number) for number in numbers)
    (folder / "job.yaml").write_text(_JOB + workers + datasets + _MODEL)


def _run(folder: Path) -> list[tuple[float, dict[str, Any]]]:
    """Give (seconds, event) of each round. Raises CalledProcessError, its output shown, where it failed."""
    command = [
        str(Path(sys.executable).with_name("fedloom")),
        "run",
        "-f",
        "job.yaml",
        "-o",
        "json",
    ]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    foreign = ("FEDLOOM_", "MLFLOW_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    found = []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=kept | quiet | _ONE_THREAD, stdout=subprocess.PIPE, stderr=log
        )
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "round":
                found.append((time.perf_counter(), event))
        if process.wait() != 0:
            sys.stderr.write((folder / "log").read_text())
            raise subprocess.CalledProcessError(process.returncode, command)
    return found


def _figures(runs: list[list[tuple[float, dict[str, Any]]]], parameters: int) -> dict[str, Any]:
    between = [[after[0] - before[0] for before, after in pairwise(rounds)] for rounds in runs]
    seconds = [median(seen) for seen in between]
    clients = [c for rounds in runs for _, event in rounds for c in event["clients"].values()]
    failed = [client["reason"] for client in clients if client["state"] != "Succeeded"]
    if failed:
        raise SystemExit(f"a worker failed: {failed[0]}")
    theirs = _V1_SECONDS_PER_PARAMETER * parameters
    return {
        "round_seconds": seconds,
        "slowest_round_seconds": max(map(max, between)),
        "v1_round_seconds_scaled": theirs,
        "ratio": theirs / median(seconds),
        "bytes_per_parameter": {
            way: max(client[f"{way}_bytes"] for client in clients) / parameters for way in _V1_BYTES
        },
        "v1_bytes_per_parameter": _V1_BYTES,
    }


def _told(measured: dict[str, Any], arguments: argparse.Namespace) -> str:
    seconds, theirs = measured["round_seconds"], measured["v1_round_seconds_scaled"]
    lines = [
        f"{arguments.parameters:,} parameters, {_WORKERS} workers, {arguments.repeat} runs of "
        f"{arguments.rounds} rounds",
        f"round: {median(seconds):.3f} s ({min(seconds):.3f} - {max(seconds):.3f}); Sedna V1, scaled: "
        f"{theirs:.1f} s; ratio {measured['ratio']:.0f}x (goal: {_GOAL}x)",
    ]
    for way, value in measured["bytes_per_parameter"].items():
        lines.append(
            f"{way}: {value:.2f} bytes per parameter; Sedna V1: {_V1_BYTES[way]}; "
            f"ratio {_V1_BYTES[way] / value:.1f}x"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
