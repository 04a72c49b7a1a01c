"""One round of 200 clients on fake edges: does it go through, how big does it get, what does the controller need?

    python benchmarks/cluster_crowd.py [--clients 200] [--namespace default]

Needs $KUBECONFIG with the quickstart in it and as many nodes `fake-1`, `fake-2`, ... that KWOK plays: their pods run
without running anything. This program does what the edges would: it takes the clients' plans and URLs out of the
round's Secrets, compresses and uploads an update for each with the product's own step, then says that their pods have
ended. The first model and the server's part are made by real pods.

Writes `benchmarks/results/cluster_crowd.json`; the exit code is 1 where a limit does not hold.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster_case
import cluster_edges
from cluster_watch import Document, Watch, kubectl, read, watching
from peers import provenance

_RESULT = Path(__file__).resolve().parent / "results" / "cluster_crowd.json"
_METRICS = "/api/v1/namespaces/fedloom-system/services/fedloom-controller:http/proxy/metrics"
_LIMITS = {
    "controller (MB)": 200.0,
    "job with status (KiB)": 1024.0,
    "workflow with status (KiB)": 1024.0,
    "clients in status": 100.0,
}


class Crowd:
    """The job, and what is measured of it."""

    def __init__(self, namespace: str, clients: int, watch: Watch) -> None:
        self._namespace, self._watch = namespace, watch
        self.name = f"crowd-{int(time.time()) % 100_000:05d}"
        self._documents = documents(self.name, clients)
        self._clients = clients
        self.measured: dict[str, float] = {}
        self._memory = [memory_bytes()]

    def run(self) -> None:
        begun = time.time()
        for start in range(0, len(self._documents), 100):
            part = self._documents[start : start + 100]
            kubectl("-n", self._namespace, "apply", "-f", "-", documents=part)
        job = read(self._namespace, "federatedlearningjob", self.name)
        names = [f"{self.name}-{job['metadata']['uid'][:8]}-r{round_}-a1" for round_ in (0, 1)]
        self._wait(names[1], lambda pods: True, "the workflow of round 1")
        seen = self._watch.seen
        self.measured["apply to workflow of round 1 (s)"] = seen.workflows[names[1]][""] - begun
        is_running = lambda pods: len(pods) >= self._clients and all("Running" in p for p in pods)  # noqa: E731
        self._wait(names[1], is_running, "all pods running")
        started = time.time()
        self.measured["workflow to all pods running (s)"] = started - seen.workflows[names[1]][""]
        with cluster_edges.reached_store():
            cluster_edges.deliver(self._namespace, names[1])
        self._memory.append(memory_bytes())
        delivered = time.time()
        self.measured["updates made and uploaded here (s)"] = delivered - started
        cluster_edges.end_pods(self._namespace, names[1])
        self._finish(job, delivered)
        self._sizes(names[1])

    def _wait(self, workflow: str, is_enough: Any, why: str) -> None:
        def look(seen: Any) -> bool:
            if workflow not in seen.workflows:
                return False
            return bool(is_enough([seen.pods[pod] for pod in seen.pods_of.get(workflow, ())]))

        end = time.monotonic() + 300
        while True:
            try:
                self._watch.until(look, 3.0, why)
                return
            except RuntimeError:
                self._memory.append(memory_bytes())
                if time.monotonic() > end:
                    raise

    def _finish(self, job: Document, since: float) -> None:
        """Wait until the job has ended well."""
        end = time.monotonic() + 300
        while time.monotonic() < end:
            self._memory.append(memory_bytes())
            found = read(self._namespace, "federatedlearningjob", self.name).get("status", {})
            if found.get("phase") in ("Succeeded", "Failed"):
                break
            time.sleep(1.0)
        if found.get("phase") != "Succeeded":
            raise RuntimeError(f"{self.name}: {json.dumps(found.get('conditions'))}")
        self.measured["pods ended to job complete (s)"] = time.time() - since
        self.measured["updates in the model"] = float(found["succeeded"])
        self.measured["clients in status"] = float(len(found["clients"]))

    def _sizes(self, workflow: str) -> None:
        for label, what in (
            ("job with status (KiB)", ("federatedlearningjob", self.name)),
            ("workflow with status (KiB)", ("workflow", workflow)),
        ):
            document = read(self._namespace, *what)
            document["metadata"].pop("managedFields", None)
            self.measured[label] = len(json.dumps(document, separators=(",", ":"))) / 1024
        self.measured["controller (MB)"] = max(self._memory) / 1e6
        self.measured["controller before (MB)"] = self._memory[0] / 1e6

    def clear(self) -> None:
        kinds = "federatedlearningjobs,datasets,models"
        kubectl("-n", self._namespace, "delete", kinds, "-l", f"crowd={self.name}", "--wait=false")


def documents(name: str, clients: int) -> list[Document]:
    """The digits job with so many clients, each on a fake edge of its own, and no evaluation."""
    job, dataset, *_, model = cluster_case.digits(name, 1, "direct")
    worker = job["spec"]["trainingWorkers"][0]
    label = {"crowd": name}
    job["metadata"]["labels"] = label
    job["spec"] |= {
        "trainingWorkers": [
            {"dataset": {"name": f"{name}-{index}"}, "template": worker["template"]}
            for index in range(1, clients + 1)
        ],
        "participation": {"minClients": clients, "deadlineSeconds": 600, "seed": 7},
        "output": {},
    }
    del job["spec"]["evaluation"]
    job["spec"]["aggregationWorker"]["model"] = {"name": name}
    model["metadata"] = {"name": name, "labels": label}
    edges = [
        {
            **dataset,
            "metadata": {"name": f"{name}-{index}", "labels": label},
            "spec": {**dataset["spec"], "nodeName": f"fake-{index}"},
        }
        for index in range(1, clients + 1)
    ]
    return [model, *edges, job]


def memory_bytes() -> float:
    found = re.search(
        r"^process_resident_memory_bytes (\S+)", kubectl("get", "--raw", _METRICS), re.M
    )
    return float(found[1]) if found else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--keep", action="store_true", help="leave the job there")
    arguments = parser.parse_args()
    origin = provenance.describe(("fedloom", "numpy"))
    with watching(arguments.namespace) as watch:
        time.sleep(3.0)  # what is there already is listed first
        crowd = Crowd(arguments.namespace, arguments.clients, watch)
        try:
            crowd.run()
        finally:
            if not arguments.keep:
                crowd.clear()
    print("\n".join(_lines(crowd.measured)))
    document = {"benchmark": "cluster_crowd", **origin, "clients": arguments.clients}
    _RESULT.write_text(json.dumps({**document, "measured": crowd.measured}, indent=2) + "\n")
    return 0 if all(crowd.measured[name] <= limit for name, limit in _LIMITS.items()) else 1


def _lines(measured: dict[str, float]) -> Iterator[str]:
    for name, value in measured.items():
        limit = _LIMITS.get(name)
        yield f"{name:36} {value:9.1f}" + ("" if limit is None else f"  limit {limit:g}")


if __name__ == "__main__":
    sys.exit(main())
