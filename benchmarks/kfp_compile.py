"""What a round costs to compile for Kubeflow Pipelines, and how many pods it is, beside Argo.

    python benchmarks/kfp_compile.py [--repeat 5]

The digits job of example 05 with 3, 100 and 1,000 clients on as many nodes. Seconds are the median of compilations of
the same plan in one process, after kfp (or hera) has been imported once; the import is measured by itself, in a process
of its own. Bytes are those of the YAML that `fedloom compile` prints, both documents. Pods are counted from what was
compiled: for KFP the root driver, for every task its driver and its executor, for every group a driver, for every
iteration of a loop one more; for Argo the tasks that run a pod, with their items.

Writes `benchmarks/results/kfp_compile.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from peers import provenance

from controller.decide import start_of
from controller.observed import Observed
from fedloom.api.documents import read_documents, render_documents
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.validation import job_to_run
from fedloom.artifacts import layout
from pipelines.engines.argo import Owner, Setting, compile_round
from pipelines.engines.kfp import compile_plan
from pipelines.engines.kfp_loops import crowd_document
from pipelines.engines.kfp_setting import KfpSetting
from pipelines.plan import Plan
from pipelines.rounds import RoundPlanner

ROOT = Path(__file__).resolve().parent.parent
_RESULT = ROOT / "benchmarks/results/kfp_compile.json"
_UID = "8c2f1a77-5b1e-4c0e-9f57-0c8d1f0a2b3c"
_SIZES = (3, 100, 1_000)
_GOALS = {100: (2.0, 250_000), 1_000: (5.0, 60_000)}
_PLACE = {
    "owner": Owner("sedna.io/v1alpha1", "FederatedLearningJob", "digits", _UID),
    "service_account": "fedloom-worker",
    "steps_image": "fedloom/steps:0.1.0",
    "store_uri": "s3://fedloom/jobs/default/digits-8c2f1a77",
    "store_endpoint": "http://minio.fedloom-system.svc:9000",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    imports = {name: _import_seconds(name, repeat) for name in ("kfp", "hera.workflows")}
    for engine, seconds in imports.items():
        print(f"import {engine}: {seconds:.2f} s")
    rows = [_measured(count, repeat) for count in _SIZES]
    print(f"{'clients':>8} {'engine':>6} {'seconds':>8} {'bytes':>9} {'pods':>6}")
    for row in rows:
        for engine in ("kfp", "argo"):
            found = row[engine]
            print(
                f"{row['clients']:>8} {engine:>6} {found['seconds']:>8.3f} {found['bytes']:>9,} "
                f"{found['pods']:>6,}"
            )
    document = {
        **provenance.describe(("kfp", "kfp-kubernetes", "hera", "kubernetes")),
        "import_seconds": imports,
        "rounds": rows,
    }
    _RESULT.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _measured(count: int, repeat: int) -> dict[str, Any]:
    plan = _planned(count)
    kfp = KfpSetting(namespace="kubeflow", **_PLACE)
    argo = Setting(namespace="default", edge_state_path="/var/lib/fedloom", **_PLACE)
    loops = crowd_document(plan, kfp)["loops"] if count > kfp.most_unrolled else {}
    package = compile_plan(plan, kfp)
    workflows = [workflow for _, workflow in compile_round(plan, argo)]
    found = {
        "kfp": {
            "seconds": _seconds(lambda: compile_plan(plan, kfp), repeat),
            "bytes": len(package.to_yaml()),
            "pods": 1 + _pods(package.pipeline, "root", loops),
        },
        "argo": {
            "seconds": _seconds(lambda: list(compile_round(plan, argo)), repeat),
            "bytes": len(render_documents(workflows)),
            "pods": sum(map(_argo_pods, workflows)),
        },
    }
    goals = _GOALS.get(count)
    if goals is not None:
        seconds, size = goals
        found["goals"] = {"seconds": seconds, "bytes": size}
        is_met = found["kfp"]["seconds"] < seconds and found["kfp"]["bytes"] < size
        print(f"{count} clients: {'within' if is_met else 'MISSED'} {seconds:g} s, {size:,} bytes")
    return {"clients": count, **found}


def _pods(pipeline: Mapping[str, Any], name: str, loops: Mapping[str, Any]) -> int:
    """Count the pods of all tasks of a DAG, without the driver of the DAG itself."""
    own = pipeline["root"] if name == "root" else pipeline["components"][name]
    pods = 0
    for task in own["dag"]["tasks"].values():
        component = task["componentRef"]["name"]
        if "executorLabel" in pipeline["components"][component]:
            pods += 2
            continue
        inside = _pods(pipeline, component, loops)
        iterator = task.get("parameterIterator")
        if iterator is None:
            pods += 1 + inside
        else:
            items = iterator["items"]["inputParameter"].removeprefix("pipelinechannel--")
            pods += 1 + len(loops[items]) * (1 + inside)
    return pods


def _argo_pods(workflow: Mapping[str, Any]) -> int:
    dag = workflow["spec"]["templates"][0]["dag"]
    return sum(len(task.get("withItems") or [None]) for task in dag["tasks"])


def _planned(count: int) -> Plan:
    """Plan round 1 of the example with so many clients, each on a node of its own."""
    documents = read_documents([ROOT / "examples/05-on-a-cluster/job.yaml"])
    originals = {kind: [] for kind in ("FederatedLearningJob", "Dataset", "Model")}
    for (kind, *_), document in documents.originals.items():
        originals[kind].append(json.loads(json.dumps(document)))
    (job,), (dataset, *_) = originals["FederatedLearningJob"], originals["Dataset"]
    template = job["spec"]["trainingWorkers"][0]["template"]
    names = [f"site-{number:04d}" for number in range(count)]
    job["spec"]["trainingWorkers"] = [
        {"dataset": {"name": name}, "template": template} for name in names
    ]
    datasets = [
        {
            **dataset,
            "metadata": {"name": name},
            "spec": {**dataset["spec"], "nodeName": f"edge-{name}"},
        }
        for name in names
    ]
    test = next(d for d in originals["Dataset"] if d["metadata"]["name"] == "digits-test")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "job.json")
        items = [job, *datasets, test, *originals["Model"]]
        path.write_text(json.dumps({"kind": "List", "items": items}), encoding="utf-8")
        read = read_documents([path])
    found = job_to_run(read)
    found = replace(found, metadata=replace(found.metadata, uid=_UID))
    model = {"key": layout.model_key(0), "digest": "sha256:" + "0" * 64, "size_bytes": 0}
    observed = Observed(last={"round": 0, "model": model, "state": {}})
    planner = RoundPlanner(found, datasets_of(read, found), models_of(read, found))
    return planner.plan(start_of(found, observed, now=0.0))


def _seconds(work: Callable[[], object], repeat: int) -> float:
    taken = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return round(median(taken), 4)


def _import_seconds(module: str, repeat: int) -> float:
    """Measure an import in processes of its own; the first fills the caches of the disk."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(repeat + 1)
    ]
    return round(median(float(run.stdout) for run in runs[1:]), 4)


if __name__ == "__main__":
    main()
