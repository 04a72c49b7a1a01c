"""What MistNet's detector is worth at each epsilon, beside what it gives away, and beside its alternatives.

    python benchmarks/mistnet.py [--seeds 3] [--resume] [--quick]

YOLOv5n on painted pictures of 96 pixels in COCO128's format, cut after layer 4: an image is 9,216 bits. The
network is pretrained once, for all seeds, on 768 public pictures of other shapes. Of each seed two edges have 128
private pictures each; 128 others, which no edge has, say how precise a detector is, and 64 more say after how many
epochs to stop. Everything is trained by the example's own recipe and goes through the product's own code:
releases with a key and a ledger of each edge, their pool, the detector, the attacks, the mean of the rounds.

- **mAP50**: as COCO defines it, on the way that the detector is used: what learnt from noisy bits is given noisy
  bits. *Chosen* takes of each seed the number of epochs that does best on the 64 pictures.
- **clean bits**: the same detector given bits without noise.
- **linkage**: how often a release is linked to the right one of the 256 private images.
- **ridge**: the share of the pixels' variance that a linear attack recovers from what is released (fitted on public
  pictures, tried on private ones, beside the mean picture), and its correlation. A lower bound.

It runs as many processes as the machine has cores, each with one thread. Each configuration's result is written as
soon as it is there; `--resume` goes on with what an earlier run left. Prints the tables and the bounds, writes
`benchmarks/results/mistnet.json`; `python benchmarks/document.py` puts them into docs/mistnet.md. Ends with 1 where a
bound is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import mistnet_tables
from mistnet_case import Case, perform
from mistnet_place import FULL, QUICK, Place, Scale, pretrain
from peers import provenance

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks/results/mistnet.json"
WORK = ROOT / ".fedloom/benchmarks/mistnet"
EPSILONS = (math.inf, 2.0, 1.0, 0.5)  # infinite: bits as they are
ONE_EDGE = (math.inf, 1.0)
ONLY_LINKED = (0.1, 0.05)
_WEIGHTS = {"fedavg": 2.5, "centralised": 2.0, "leakage": 0.2}  # of an epoch, beside a tail's


def main() -> int:
    options = _options()
    scale = QUICK if options.quick else FULL
    place = Place(WORK / ("quick" if options.quick else "full"), scale)
    if not options.resume:
        shutil.rmtree(place.folder, ignore_errors=True)
    place.folder.mkdir(parents=True, exist_ok=True)
    about = provenance.describe(("numpy", "torch", "pycocotools"))
    started = time.perf_counter()
    pretraining = pretrain(place)
    print(f"pretrained: {pretraining}", flush=True)
    for seed in range(1, options.seeds + 1):
        place.homes(seed)
    cases = [case for seed in range(1, options.seeds + 1) for case in cases_of(scale, seed)]
    rows = performed(cases, place, options.processes)
    result = {
        "benchmark": "mistnet",
        **about,
        "scale": vars(scale),
        "seeds": options.seeds,
        "processes": options.processes,
        "seconds": round(time.perf_counter() - started, 1),
        "is_resumed": options.resume,
        "pretraining": pretraining,
        "rows": rows,
    }
    print(mistnet_tables.whole(result))
    if not options.quick:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return int(not all(bound.holds for bound in mistnet_tables.bounds(result)))


def cases_of(scale: Scale, seed: int) -> Iterable[Case]:
    """Give what is done with a seed."""
    yield Case("public", seed, 0.0)
    yield Case("fedavg", seed, 0.0, scale.rounds)
    for epochs in scale.epochs:
        yield Case("centralised", seed, 0.0, epochs)
        yield Case("floats", seed, 0.0, epochs)
        for epsilon in EPSILONS:
            yield Case("release", seed, epsilon, epochs)
        for epsilon in ONE_EDGE:
            yield Case("release", seed, epsilon, epochs, edges=1)
    for epsilon in (0.0, *EPSILONS, *ONLY_LINKED):
        yield Case("leakage", seed, epsilon)


def performed(cases: list[Case], place: Place, processes: int) -> list[dict[str, Any]]:
    """Do all of them, the longest first; give what came of each, in the order of `cases`."""
    results = place.folder / "cases"
    results.mkdir(exist_ok=True)
    files = {case: results / f"{case.name}.json" for case in cases}
    waiting = [case for case in cases if not files[case].exists()]
    waiting.sort(key=lambda case: -case.epochs * _WEIGHTS.get(case.kind, 1.0) * case.edges)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        asked = {pool.submit(perform, case, place): case for case in waiting}
        for number, future in enumerate(as_completed(asked), start=1):
            case, found = asked[future], future.result()
            unfinished = files[case].with_suffix(".part")
            unfinished.write_text(json.dumps({**case.document(), **found}))
            unfinished.replace(files[case])
            worth = found.get("map50", found.get("variance"))
            print(
                f"{number}/{len(asked)} {case.name}: {worth:.3f} in {found['seconds']} s",
                flush=True,
            )
    return [json.loads(files[case].read_bytes()) for case in cases]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="sets of private pictures, from 1 on")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--resume", action="store_true", help="keep what an earlier run worked out")
    parser.add_argument("--quick", action="store_true", help="few pictures; nothing is written")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
