"""Write docs/benchmarks.md, and the figures in docs/mistnet.md, from the last runs: `python benchmarks/document.py`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import mistnet_sections

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
HEAD = """# Benchmarks

Written by `python benchmarks/document.py` from the JSON files that the benchmarks leave in `benchmarks/results/`; no
figure is typed by hand. Every ratio comes from systems measured side by side in one run. Absolute times belong to
the machine named with them.
"""
EMBEDDED = """## A round on one machine

`python benchmarks/embedded_round.py`. The same numpy perceptron (64-200-10, 15,010 parameters), digits, Dirichlet(0.5)
split, seeds, 10 clients, uncompressed FedAvg, evaluation after every round. A round is (wall of a 60-round job - wall of
a 10-round job) / 50: commit, evaluation and, for Fedloom, MLflow included. Medians; memory is the proportional set
size of the whole process tree, sampled ten times a second.
"""
EMBEDDED_NOTE = """**Read it with this in mind.** A 60-round job of Fedloom lasts less than a second and shares two cores with the
process that is loading MLflow meanwhile; `round` counts what a round adds to the job's wall, so what happens beside
that loading costs little there. *Between rounds, long job* is the plainest figure: the median time between two rounds'
lines in the second half of a 300-round job, MLflow logging included. Fedloom's memory includes MLflow's process, about
130 MiB of it.
"""
AGGREGATION = """## Aggregation

`python benchmarks/aggregation.py`. The weighted mean of K updates of P float32 parameters, one thread. `ratio` is the
rate beside `numpy.sum` over the same bytes (median of paired runs); `MiB over base` is resident memory beyond the
inputs. *files* reads safetensors files from the page cache; *update files* goes through the product's own reader and
codec (GB/s as float32); *mean kept* collects the whole mean in memory as the peers do.
"""
CODECS = """## Codecs

`python benchmarks/codecs.py`. 25 M float32 values through each uplink codec, one core; *decode* includes adding up.
"""
CLUSTER = """## A round on a cluster

`python benchmarks/cluster_round.py`. The digits job of example 05 on three edges, MLflow and evaluation included, beside a
hand-written Argo DAG of the same shape: three pinned pods with one init container and two containers, one pod with three,
the job's images and requests, `true` in each. A round lasts from its workflow's coming to the next one's; a bare DAG until
Argo says Succeeded, or (*pods only*) until its last pod has ended. Ratios take the user's training off the round. All are
interleaved.

The ratio is below one because a round ends with its `result.json`: the controller looks for it while the last pod is at
work, and starts the next round while Argo's sidecar, the kubelet and Argo itself still close the old workflow. *Both until
Argo's end* leaves that out: the round's own workflow beside the bare one, though the next round's pods run meanwhile.
"""
CROWD = """### A crowd

`python benchmarks/cluster_crowd.py`. One round of 200 clients whose nodes KWOK plays: the workflow, its status, the updates
(made and uploaded through presigned URLs by the benchmark, with the product's own step) and the job's status are real, the
training is not. *Controller* is the most resident memory that `/metrics` told during the run.
"""
IDLE = """### A thousand jobs at rest

`python benchmarks/cluster_idle.py`. A thousand jobs, ended and suspended ones, watched by one controller. By default the API
server is a stand-in within the same process, whose memory is taken off; `--real` takes $KUBECONFIG's.
"""
SEDNA = """## A script of Sedna

`python benchmarks/sedna_round.py`. A script that imports nothing but `sedna`, with 5 million parameters and next to no training,
two workers, `fedloom run`. Sedna's own figures were measured with 0.7 million parameters (20 s a round, 21.9 and 22.5 bytes per
parameter) and are scaled: its protocol does not carry 5 million.
"""
LEARNING = """## Learning

`python benchmarks/learning.py` writes its tables into [algorithms.md](algorithms.md#what-they-reach),
[compression.md](compression.md#what-they-reach) and [robust-aggregation.md](robust-aggregation.md#what-they-reach);
`python benchmarks/transfer.py` writes its into [transfer.md](transfer.md#what-it-reaches).
"""
MISTNET = """## MistNet

What `benchmarks/mistnet.py`, `mistnet_jobs.py` and `mistnet_edge.py` found stands in
[mistnet.md](mistnet.md#what-it-reaches-and-what-it-gives-away).
"""
MEASURES = {
    "round (ms)": ("round_seconds", 1e3),
    "round, start taken out (ms)": ("round_without_start_seconds", 1e3),
    "between rounds (ms)": ("between_rounds_seconds", 1e3),
    "between rounds, long job (ms)": ("between_rounds_of_a_long_job_seconds", 1e3),
    "start + round 1 (s)": ("start_and_first_round_seconds", 1.0),
    "peak PSS (MiB)": ("peak_pss_bytes", 1 / 2**20),
}


def main() -> None:
    embedded = json.loads((RESULTS / "embedded_round.json").read_bytes())
    aggregation = json.loads((RESULTS / "aggregation.json").read_bytes())
    parts = [HEAD, EMBEDDED, _embedded_table(embedded), EMBEDDED_NOTE]
    parts += [AGGREGATION, _aggregation_table(aggregation)]
    cluster = json.loads((RESULTS / "cluster_round.json").read_bytes())
    crowd = json.loads((RESULTS / "cluster_crowd.json").read_bytes())
    parts += [CLUSTER, _cluster_tables(cluster), CROWD, _crowd_table(crowd)]
    parts += [IDLE, _idle_table(json.loads((RESULTS / "cluster_idle.json").read_bytes()))]
    parts += [SEDNA, _sedna_table(json.loads((RESULTS / "sedna_round.json").read_bytes()))]
    codecs = json.loads((RESULTS / "codecs.json").read_bytes())
    parts += [CODECS, _codecs_table(codecs), LEARNING, MISTNET]
    (ROOT / "docs/benchmarks.md").write_text("\n".join(parts))
    mistnet_sections.write_sections()


def _embedded_table(result: Mapping[str, Any]) -> str:
    systems = result["systems"]
    rows = []
    for label, (key, scale) in MEASURES.items():
        values = {name: median(seen[key]) * scale for name, seen in systems.items()}
        ranges = {name: [v * scale for v in seen[key]] for name, seen in systems.items()}
        cells = [f"{values[n]:.3g} ({min(ranges[n]):.3g} - {max(ranges[n]):.3g})" for n in systems]
        ratio = values["flower"] / values["fedloom"]
        rows.append(
            [label, *cells, f"**{ratio:.1f}x**", f"{values['fedloom'] / values['numpy loop']:.2f}x"]
        )
    head = ["measure", *systems, "Flower / Fedloom", "Fedloom / loop"]
    verdict = "".join(f"- {line}\n" for line in result["verdict"])
    versions = result["versions"]
    flower = versions["flower environment"]
    where = (
        f"Commit `{result['commit'][:12]}`, {result['date'][:10]}, {result['cpu']['model']}, "
        f"{result['cpu']['cores']} cores, Python {versions['python']}, numpy {versions['numpy']}, "
        f"MLflow {versions['mlflow']}, Flower {flower['flwr']} on Ray {flower['ray']}, "
        f"{result['repeat']} repetitions."
    )
    return f"{where}\n\n{_table(head, rows)}\n{verdict}"


def _aggregation_table(result: Mapping[str, Any]) -> str:
    rows = [
        [
            row["system"],
            row["clients"],
            f"{row['parameters'] / 1e6:g} M",
            f"{row['gb_per_second']:.1f}",
            f"{row['sum_gb_per_second']:.1f}",
            f"**{row['ratio']:.0%}**",
            f"{row['memory_bytes'] / 2**20:.1f}",
        ]
        for row in result["rows"]
    ]
    head = ["system", "K", "P", "GB/s", "numpy.sum GB/s", "ratio", "MiB over base"]
    peers = ", ".join(f"{name} {version}" for name, version in result["peers"].items())
    where = (
        f"Commit `{result['commit'][:12]}`, {result['date'][:10]}, {result['cpu']}, {result['cores']} "
        f"cores, Python {result['python']}, numpy {result['numpy']}, {peers}."
    )
    return f"{where}\n\n{_table(head, rows)}"


def _cluster_tables(result: Mapping[str, Any]) -> str:
    walls = [
        [kind, f"{median(seen):.1f}", f"{min(seen):.1f} - {max(seen):.1f}", len(seen)]
        for kind, seen in result["wall_seconds"].items()
    ]
    ratios = [[name, f"**{value:.2f}**"] for name, value in result["ratios"].items()]
    parts = [
        [name, f"{seconds:.2f}", result["meanings"][name]]
        for name, seconds in result["parts"].items()
    ]
    cluster, loads = result["cluster"], result["loads"]
    where = (
        f"Commit `{result['commit'][:12]}`, {result['date'][:10]}, {result['cpu']['model']}, "
        f"{result['cpu']['cores']} cores for all {cluster['nodes']} nodes, Kubernetes {cluster['kubelet']}, Argo "
        f"`{cluster['argo'].rpartition('/')[2]}`, load average {min(loads):.1f} - {max(loads):.1f}."
    )
    return "\n".join(
        [
            f"{where}\n",
            _table(["system", "round (s)", "range", "rounds"], walls),
            _table(["ratio", ""], ratios),
            "Where the time of a direct round goes, in order:\n",
            _table(["part", "s", "what"], parts),
        ]
    )


def _crowd_table(result: Mapping[str, Any]) -> str:
    rows = [[name, f"{value:.1f}"] for name, value in result["measured"].items()]
    where = f"Commit `{result['commit'][:12]}`, {result['date'][:10]}, {result['clients']} clients."
    return f"{where}\n\n{_table(['measure', ''], rows)}"


def _idle_table(result: Mapping[str, Any]) -> str:
    """What a thousand jobs cost a controller, beside the limits."""
    measured, limits = result["measured"], result["limits"]
    rows = [(name, f"{value:.3g}", limits.get(name, "")) for name, value in measured.items()]
    return f"{_run_of(result)}\n\n{_table(('measure', 'value', 'limit'), rows)}"


def _sedna_table(result: Mapping[str, Any]) -> str:
    """A round through the library beside Sedna's own."""
    seconds, scaled = median(result["round_seconds"]), result["v1_round_seconds_scaled"]
    rows = [("round (s)", f"{seconds:.2f}", f"{scaled:.0f}", f"**{result['ratio']:.0f}x**")]
    for way in ("uplink", "downlink"):
        ours, theirs = (
            result[name][way] for name in ("bytes_per_parameter", "v1_bytes_per_parameter")
        )
        rows.append((f"{way} (B per parameter)", f"{ours:.2f}", theirs, f"{theirs / ours:.1f}x"))
    return f"{_run_of(result)}\n\n{_table(('measure', 'Fedloom', 'Sedna', 'ratio'), rows)}"


def _codecs_table(result: Mapping[str, Any]) -> str:
    rows = [
        [
            row["codec"],
            f"{row['encode_mb_per_second']:.0f}",
            f"{row['decode_mb_per_second']:.0f}",
            f"{row['bytes_per_parameter']:.3f}",
            f"{row['relative_error']:.2%}",
            f"{max(row['encode_memory_bytes'], row['decode_memory_bytes']) / 2**20:.1f}",
        ]
        for row in result["rows"]
    ]
    head = [
        "codec",
        "encode MB/s",
        "decode MB/s",
        "bytes/parameter",
        "relative error",
        "MiB over base",
    ]
    where = (
        f"Commit `{result['commit'][:12]}`, {result['date'][:10]}, {result['cpu']['model']}, "
        f"Python {result['versions']['python']}, numpy {result['versions']['numpy']}."
    )
    return f"{where}\n\n{_table(head, rows)}"


def _run_of(result: Mapping[str, Any]) -> str:
    """Which run a table is of."""
    cpu = result["cpu"]
    return (
        f"Commit `{result['commit'][:12]}`, {result['date'][:10]}, {cpu['model']}, {cpu['cores']} cores, "
        f"load {cpu['load_average_at_start']} at its start."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


if __name__ == "__main__":
    main()
