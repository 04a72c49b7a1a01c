"""A thousand jobs that nothing happens to: what does watching them cost the controller?

    python benchmarks/cluster_idle.py [--jobs 1000] [--seconds 60] [--real]

Half of the jobs have ended, half are suspended after three rounds. A whole controller runs in this process, over
the tests' API server in memory, whose own memory is measured before and told apart; its store answers over HTTP
from a second process. With --real it is the API server of $KUBECONFIG, with the CRDs in it; the jobs are then made in
a namespace of their own, which is deleted in the end.

Counted: the process's memory and processor time while nothing happens; what listing all anew costs, which happens
every five minutes; and one decision. Writes `benchmarks/results/cluster_idle.json`; the exit code is 1 where a limit
does not hold.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cluster_idle_case as case
from peers import provenance

from controller.cluster.exposition import resident_bytes
from controller.cluster.main import Controller
from controller.cluster.resources import NODES, Resource
from controller.cluster.settings import read_settings
from controller.decide import decide
from controller.observed import Observed
from fedloom.api.defaults import with_defaults
from fedloom.api.reading import read_job

_HERE = Path(__file__).resolve().parent
_RESULT = _HERE / "results" / "cluster_idle.json"
_NAMESPACES = Resource("v1", "namespaces", "Namespace", is_namespaced=False)
_RESYNC_SECONDS = 300.0
_LIMITS = {
    "controller (MB)": 200.0,
    "processor, idle with resync (% of a core)": 5.0,
    "decide (ms)": 1.0,
}


def _settings(port: int) -> Any:
    settings = read_settings(
        {
            "FEDLOOM_STORE": "s3://idle/jobs",
            "FEDLOOM_STORE_ENDPOINT": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "s",
            "FEDLOOM_STEPS_IMAGE": "fedloom/steps:0.1.0",
            "FEDLOOM_NAMESPACES": case.NAMESPACE,
            "FEDLOOM_LISTEN": "127.0.0.1:0",
            "POD_NAMESPACE": case.NAMESPACE,
        }
    )
    return replace(settings, tracking_uri=None)


def _measure(cluster: Any, jobs: int, seconds: float, port: int, before: float) -> dict[str, float]:
    controller = Controller(_settings(port), cluster)
    began, spent = time.monotonic(), time.process_time()
    thread = threading.Thread(target=controller.run, daemon=True)
    thread.start()
    _until(lambda: _suspended(controller) >= jobs // 2, 600.0)
    if hasattr(cluster, "forget"):
        cluster.forget()  # or every watch would look through the history of the making
    time.sleep(2.0)
    _until(lambda: len(controller.queue) == 0, 120.0)
    measured = {
        "start to all jobs looked at (s)": time.monotonic() - began,
        "processor for that (s)": time.process_time() - spent,
    }
    gc.collect()
    spent, began = time.process_time(), time.monotonic()
    time.sleep(seconds)
    idle = (time.process_time() - spent) / (time.monotonic() - began)
    spent = time.process_time()
    for cache in controller.watches.all:
        cache.refresh(case.NAMESPACE if cache.resource.is_namespaced else None)
    _until(lambda: len(controller.queue) == 0, 120.0)
    time.sleep(2.0)
    resync = time.process_time() - spent
    memory = resident_bytes()
    measured |= {
        "process (MB)": memory / 1e6,
        "of it the API server in memory (MB)": before / 1e6,
        "controller (MB)": (memory - before) / 1e6,
        "processor, idle (% of a core)": 100 * idle,
        "listing all anew (s of processor)": resync,
        "processor, idle with resync (% of a core)": 100 * (idle + resync / _RESYNC_SECONDS),
    }
    controller.stop()
    thread.join(15.0)
    return measured


def _suspended(controller: Controller) -> int:
    found = 0
    for document in controller.watches.jobs.all():
        conditions = (document.get("status") or {}).get("conditions") or ()
        found += any((c["type"], c["status"]) == ("Suspended", "True") for c in conditions)
    return found


def _until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError("the controller does not come to rest")
        time.sleep(0.2)


def _decide_ms() -> float:
    """The median of a hundred decisions on a job of a thousand clients and a thousand rounds, in processor time."""
    document = case.job(1)
    document["spec"]["suspend"] = False
    template = document["spec"]["trainingWorkers"][0]["template"]
    document["spec"] |= {
        "rounds": 2_000,
        "stopCondition": {"metric": "train/loss", "goal": "minimize", "patience": 50},
        "trainingWorkers": [
            {"dataset": {"name": f"d{index}"}, "template": template} for index in range(1_000)
        ],
    }
    job = with_defaults(read_job(document))
    metrics = [{"train/loss": 1.0 / (1 + number)} for number in range(1_000)]
    last = case.result_of(999) | {"rounds": 2_000}
    observed = Observed(last=last, metrics=metrics)
    taken = []
    for _ in range(100):
        began = time.thread_time()
        assert decide(job, observed, time.time()).start is not None
        taken.append(time.thread_time() - began)
    return 1e3 * sorted(taken)[len(taken) // 2]


def main() -> int:
    """Measure, write the result, say which limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--real", action="store_true", help="the API server of $KUBECONFIG")
    given = parser.parse_args()
    origin = provenance.describe(("fedloom",))
    receiver, sender = multiprocessing.Pipe(duplex=False)
    store = multiprocessing.Process(target=case.serve, args=(sender,), daemon=True)
    store.start()
    port = receiver.recv()
    cluster, node = case.fake(), "edge-1"
    if given.real:
        from controller.cluster.kubernetes import ApiServer

        cluster = ApiServer.connect()
        node = cluster.list(NODES, None)[0][0]["metadata"]["name"]
        cluster.create(_NAMESPACES, {"metadata": {"name": case.NAMESPACE}})
    nothing = resident_bytes()
    try:
        case.fill(cluster, given.jobs, node)
        gc.collect()
        before = 0.0 if given.real else resident_bytes() - nothing
        measured = _measure(cluster, given.jobs, given.seconds, port, before)
    finally:
        store.terminate()
        if given.real:
            cluster.delete(_NAMESPACES, None, case.NAMESPACE)
    measured["decide (ms)"] = _decide_ms()
    held = {name: measured[name] <= limit for name, limit in _LIMITS.items()}
    result = {
        "benchmark": "cluster_idle",
        **origin,
        "jobs": given.jobs,
        "api_server": "of a cluster" if given.real else "in this process",
        "measured": {name: round(value, 3) for name, value in measured.items()},
        "limits": _LIMITS,
        "held": held,
    }
    _RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in measured.items():
        limit = (
            f"   at most {_LIMITS[name]:g}: {'yes' if held[name] else 'NO'}" if name in held else ""
        )
        print(f"{name:<45} {value:>10.3f}{limit}")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
