"""What a round costs on a cluster, beside a bare Argo DAG of the same shape.

    python benchmarks/cluster_round.py [--repeat 2] [--namespace default] [--keep]

Needs $KUBECONFIG with the quickstart in it, images of example 05 and nodes edge-1 to edge-3.

- **direct, dispatch**: the digits job of example 05, as it is (MLflow, registered model, evaluation), with either
  runtime of its edges. A round's wall lasts from its workflow's coming to the next one's, so that it holds all: Argo,
  pods, our steps, the controller. The first and the last round are not counted: they have no full one beside them.
- **bare**: a hand-written DAG with the same images, requests, places and number of containers, `true` in each of them;
  from the workflow's coming until Argo says Succeeded. *Bare, pods only* ends with the server's pod: what Argo
  does afterwards a round of ours does not wait for. *Until Argo's end* is the other way round: the round's workflow,
  though the next round runs beside its end already.
- Ratios: (median round - its median training) / median bare. Training is the user's script alone, without the start of
  its container, on the client that was last.

All are interleaved. Writes `benchmarks/results/cluster_round.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import cluster_case
import cluster_parts
from cluster_watch import Document, Seen, Watch, kubectl, read, watching
from peers import provenance

_RESULT = Path(__file__).resolve().parent / "results" / "cluster_round.json"
_ROUNDS = 5
_LONGEST_SECONDS = 240.0
_GOALS = {"direct / bare": 1.1, "dispatch / direct": 1.4, "controller (s)": 1.0}


@dataclass
class Measured:
    """What was measured; seconds, an entry per round."""

    walls: dict[str, list[float]] = field(default_factory=dict)
    trainings: dict[str, list[float]] = field(default_factory=dict)
    parts: list[dict[str, float]] = field(default_factory=list)
    handovers: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    def add(self, kind: str, wall: float) -> None:
        self.walls.setdefault(kind, []).append(wall)
        print(f"{kind}: {wall:.2f} s", file=sys.stderr, flush=True)


class Bench:
    """Runs jobs and bare DAGs in one namespace."""

    def __init__(self, namespace: str, watch: Watch, results: cluster_case.Results) -> None:
        self._namespace, self._watch, self._results = namespace, watch, results
        self._run = f"{int(time.time()) % 100_000:05d}"
        self._number = 0
        self.made: list[tuple[str, str]] = []

    def job(self, runtime: str, measured: Measured) -> None:
        """Run a job to its end and take its inner rounds."""
        name = self._name(runtime)
        documents = cluster_case.digits(name, _ROUNDS, runtime)
        self.made.append(("federatedlearningjob", name))
        kubectl("-n", self._namespace, "apply", "-f", "-", documents=documents)
        job = read(self._namespace, "federatedlearningjob", name)
        workflows = [
            f"{name}-{job['metadata']['uid'][:8]}-r{round_}-a1" for round_ in range(_ROUNDS + 1)
        ]
        self._watch.until(
            lambda seen: "Succeeded" in seen.workflows.get(workflows[-1], ()),
            _LONGEST_SECONDS,
            f"the end of {name}; a round that is tried again is not measured",
        )
        for round_ in range(1, _ROUNDS):
            names = (workflows[round_], workflows[round_ + 1])
            self._take(runtime, job, round_, names, measured)

    def _take(
        self, runtime: str, job: Document, round_: int, names: tuple[str, str], measured: Measured
    ) -> None:
        seen, result = self._watch.seen, self._results.of(job, round_)
        begin, end = (seen.workflows[name][""] for name in names)
        measured.add(runtime, end - begin)
        measured.add(f"{runtime}, until Argo's end", seen.workflows[names[0]]["Succeeded"] - begin)
        training = cluster_parts.training_seconds(result)
        measured.trainings.setdefault(runtime, []).append(training)
        measured.handovers.append(end - float(result["finished"]))
        if runtime == "direct":
            measured.parts.append(cluster_parts.round_parts(seen, result, names))

    def bare(self, measured: Measured) -> None:
        """Run a bare DAG."""
        name = self._name("bare")
        self.made.append(("workflow", name))
        kubectl("-n", self._namespace, "create", "-f", "-", documents=[cluster_case.bare(name)])

        def is_over(seen: Seen) -> bool:
            pods = [seen.pods[pod] for pod in seen.pods_of.get(name, ())]
            is_done = len(pods) == 4 and all("Succeeded" in phases for phases in pods)
            return is_done and "Succeeded" in seen.workflows[name]

        self._watch.until(is_over, _LONGEST_SECONDS, f"the end of {name}")
        seen = self._watch.seen
        phases, server = seen.workflows[name], seen.pods_of[name][-1]
        measured.add("bare", phases["Succeeded"] - phases[""])
        measured.add("bare, pods only", seen.pods[server]["Succeeded"] - phases[""])

    def clear(self) -> None:
        for kind, name in self.made:
            kubectl(
                "-n", self._namespace, "delete", kind, name, "--wait=false", "--ignore-not-found"
            )

    def _name(self, kind: str) -> str:
        self._number += 1
        return f"bench-{self._run}-{self._number}-{kind}"


def main() -> int:
    arguments = _read_arguments()
    origin = provenance.describe(("fedloom", "numpy"))
    measured = Measured()
    with cluster_case.results() as results, watching(arguments.namespace) as watch:
        time.sleep(3.0)  # what is there already is listed first
        bench = Bench(arguments.namespace, watch, results)
        try:
            for step in _schedule(arguments.repeat, not arguments.without_dispatch):
                measured.loads.append(round(os.getloadavg()[0], 2))
                if step == "bare":
                    bench.bare(measured)
                else:
                    bench.job(step, measured)
        finally:
            if not arguments.keep:
                bench.clear()
    figures = _figures(measured)
    print("\n".join(_lines(figures)))
    if not arguments.dry:
        document = {"benchmark": "cluster_round", **origin, **_cluster(), **figures}
        _RESULT.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=2, help="repetitions (default: 2)")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--keep", action="store_true", help="leave jobs and workflows there")
    parser.add_argument("--without-dispatch", action="store_true")
    parser.add_argument("--dry", action="store_true", help="do not write the result")
    return parser.parse_args()


def _schedule(repeat: int, is_dispatch: bool) -> Iterator[str]:
    for _ in range(repeat):
        yield from ("bare", "direct", "bare")
        if is_dispatch:
            yield from ("dispatch", "bare")


def _cluster() -> dict[str, Any]:
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    image = kubectl(
        "get", "deployments", "-A", "-o",
        "jsonpath={.items[?(@.metadata.name=='workflow-controller')].spec.template.spec.containers[0].image}",
    )  # fmt: skip
    kubelets = sorted({node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes})
    return {"cluster": {"nodes": len(nodes), "kubelet": ", ".join(kubelets), "argo": image}}


def _figures(measured: Measured) -> dict[str, Any]:
    walls = {kind: median(values) for kind, values in measured.walls.items()}
    training = {kind: median(values) for kind, values in measured.trainings.items()}
    net = {kind: walls[kind] - training[kind] for kind in training}
    ratios = {
        "direct / bare": net["direct"] / walls["bare"],
        "direct / bare, both until Argo's end": (
            walls["direct, until Argo's end"] - training["direct"]
        )
        / walls["bare"],
        "direct / bare, pods only": net["direct"] / walls["bare, pods only"],
        "controller (s)": median(measured.handovers),
    }
    if "dispatch" in walls:
        ratios["dispatch / direct"] = walls["dispatch"] / walls["direct"]
    return {
        "wall_seconds": measured.walls,
        "training_seconds": measured.trainings,
        "handover_seconds": measured.handovers,
        "loads": measured.loads,
        "ratios": ratios,
        "parts": cluster_parts.medians(measured.parts),
        "meanings": cluster_parts.MEANINGS,
    }


def _lines(figures: dict[str, Any]) -> Iterator[str]:
    for kind, values in figures["wall_seconds"].items():
        spread = f"{min(values):.2f} - {max(values):.2f}"
        yield f"{kind:28} {median(values):7.2f} s  ({spread}, n = {len(values)})"
    yield ""
    for name, seconds in figures["parts"].items():
        yield f"  {name:28} {seconds:6.2f} s  {cluster_parts.MEANINGS[name]}"
    yield ""
    for name, value in figures["ratios"].items():
        goal = _GOALS.get(name)
        verdict = (
            "" if goal is None else f"  goal {goal}: " + ("reached" if value <= goal else "MISSED")
        )
        yield f"{name:28} {value:7.2f}{verdict}"


if __name__ == "__main__":
    sys.exit(main())
