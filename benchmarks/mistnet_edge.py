"""What MistNet costs: images a second on an edge, its memory, its upload, and the memory of the cloud.

    python benchmarks/mistnet_edge.py [--quick]

YOLOv5n with 80 classes, cut after layer 4, epsilon 1, painted JPEGs of their network's own size. Each
measurement is a process of its own with one thread of torch; what is measured is the product's own code from
the file of the image to the file of the release, and from there to the trained tail.

- **images per second**: of a core: over the seconds of processor time that a release takes, ledger and file
  included; over those that pass is told beside it, and depends on what else the machine does.
- **memory of release**: the most resident memory of a process that releases 32 images, and of one that
  releases 512. It must not depend on how many there are.
- **upload**: the file of a release, by image: bits, labels, names, manifest.
- **memory of train-tail**: the most resident memory of a process that trains the tail for an epoch on 128 images
  of 640 pixels, read from the file of their release, in batches of 16; torch itself is about 0.55 GiB of it.

Prints a table and writes `benchmarks/results/mistnet_edge.json`. Ends with 1 where a bound is missed. Linux only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peers import provenance

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks/results/mistnet_edge.json"
SETTINGS = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
SMALL, LARGE = 160, 640
BATCH = 16
LEAST_IMAGES_PER_SECOND = 20.0
MOST_GROWTH = 1.05
MOST_UPLOAD_BYTES = 51_200 * 1.01
MOST_TAIL_BYTES = 2 * 2**30
_PICTURES = "pictures"
Found = dict[str, float]


def main() -> int:
    options = _options()
    if options.case:
        told = _CASES[options.case](Path(options.folder), options.images, options.size)
        print(json.dumps(told | {"peak_bytes": peak_bytes()}))
        return 0
    few, many, large = (8, 32, 16) if options.quick else (32, 512, 128)
    about = provenance.describe(("numpy", "torch", "pillow"))
    with tempfile.TemporaryDirectory(prefix="fedloom-mistnet-") as folder:
        found = {
            "release of few": run_case("release", f"{folder}/few", few, SMALL),
            "release of many": run_case("release", f"{folder}/many", many, SMALL),
            "release of large images": run_case("release", f"{folder}/large", large, LARGE),
            "train-tail": run_case("train", f"{folder}/large", large, LARGE),
        }
    rows = rows_of(found)
    print(as_table(rows))
    if not options.quick:
        report = {"benchmark": "mistnet_edge", **about, "measured": found, "rows": rows}
        RESULT.write_text(json.dumps(report, indent=1) + "\n")
    return int(any(row["within"] is False for row in rows))


def run_case(case: str, folder: str, images: int, size: int) -> Found:
    """Measure one thing in a process of its own; pictures to release are made first, in another."""
    if case == "release":
        run_case("make", folder, images, size)
    command = [sys.executable, __file__, "--case", case, "--folder", folder]
    command += ["--images", str(images), "--size", str(size)]
    settings = {**os.environ, **SETTINGS}
    outcome = subprocess.run(command, env=settings, stdout=subprocess.PIPE, text=True, check=True)
    found: Found = json.loads(outcome.stdout.splitlines()[-1])
    return found


def make(folder: Path, images: int, size: int) -> Found:
    """Paint the pictures that `release` releases."""
    from fedloom.data.generator import Order, make_sets

    make_sets(folder / _PICTURES, Order(images=images, held_out=0, size=size))
    return {}


def release(folder: Path, images: int, size: int) -> Found:
    """Release the pictures that lie in the folder."""
    from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse
    from fedloom.training.feature_release import ReleaseOrder, release_features

    model, extractor, _ = detector_of(size)
    pictures = str(folder / _PICTURES)
    order = ReleaseOrder("edge", pictures, RandomizedResponse(1), math.inf, folder / "state")
    started, used = time.perf_counter(), time.process_time()
    released = release_features(model, extractor, order, folder / "release.safetensors")
    used, seconds = time.process_time() - used, time.perf_counter() - started
    return {
        "images": released.manifest.images,
        "core_seconds": used,
        "wall_seconds": seconds,
        "file_bytes": released.size_bytes,
        "bits": released.manifest.bits,
        "labels": released.manifest.labels,
    }


def train(folder: Path, images: int, size: int) -> Found:
    """Train a tail for an epoch on the release that lies in the folder."""
    from fedloom.artifacts.artifact import digest_of_file
    from fedloom.artifacts.pooled_releases import Expected, PooledReleases, open_release
    from fedloom.training.context import Round
    from fedloom.training.split import extractor_digest

    model, extractor, tail = detector_of(size)
    expected = Expected(extractor_digest(model, extractor), model.shape, model.label_columns)
    path = folder / "release.safetensors"
    used = time.process_time()
    with PooledReleases([open_release(path, digest_of_file(path), "edge", expected)]) as pool:
        update = model.train(tail, pool, Round(1, 1, seed=1))
    return {
        "images": update.num_examples,
        "steps": update.num_steps,
        "core_seconds": time.process_time() - used,
    }


def detector_of(size: int) -> tuple[Any, Any, Any]:
    """Give the example's detector, not pretrained, its extractor and its tail."""
    sys.path.insert(0, str(ROOT / "examples/06-mistnet-yolov5"))
    from dataclasses import replace

    from detector.network import Shape
    from detector.recipe import SMALL_RECIPE
    from detector.split_detector import Setting, SplitDetector

    from fedloom.training.torch import bound_threads

    bound_threads(1)
    recipe = replace(SMALL_RECIPE, epochs=1, batch_size=BATCH, nominal_batch=BATCH)
    model = SplitDetector(Setting(Shape("n"), size=size, recipe=recipe, device="cpu"))
    parts = model.initialize(1)
    return model, parts.extractor, parts.tail


_CASES = {"make": make, "release": release, "train": train}


def peak_bytes() -> int:
    """Give the most memory that was resident in this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def rows_of(found: dict[str, Found]) -> list[dict[str, Any]]:
    """Give what is told: of each row the value, its unit, its bound and whether it is within."""
    few, many, large, tail = found.values()
    growth = many["peak_bytes"] / few["peak_bytes"]
    upload = large["file_bytes"] / large["images"]
    rate = many["images"] / many["core_seconds"]
    return [
        _row(f"release, {SMALL} px", rate, "images/s of a core", least=LEAST_IMAGES_PER_SECOND),
        _row("the same, by the clock", many["images"] / many["wall_seconds"], "images/s"),
        _row(f"release, {LARGE} px", large["images"] / large["core_seconds"], "images/s of a core"),
        _row(f"memory of release, {few['images']} images", few["peak_bytes"] / 2**20, "MiB"),
        _row(f"memory of release, {many['images']} images", many["peak_bytes"] / 2**20, "MiB"),
        _row("their ratio", growth, "", most=MOST_GROWTH),
        _row(f"upload, {LARGE} px", upload, "B/image", most=MOST_UPLOAD_BYTES),
        _row(
            f"memory of train-tail, {tail['images']} images, {LARGE} px",
            tail["peak_bytes"] / 2**20,
            "MiB",
            most=MOST_TAIL_BYTES / 2**20,
        ),
        _row("train-tail, an epoch of them", tail["core_seconds"], "s of a core"),
    ]


def _row(
    name: str, value: float, unit: str, *, least: float = 0, most: float = 0
) -> dict[str, Any]:
    bound = f">= {least:,.4g}" if least else f"<= {most:,.6g}" if most else ""
    within = value >= least if least else value <= most if most else None
    return {"measure": name, "value": value, "unit": unit, "bound": bound, "within": within}


def as_table(rows: list[dict[str, Any]]) -> str:
    words = {True: "pass", False: "FAIL", None: ""}
    return "\n".join(
        f"{row['measure']:<45}{row['value']:>12,.2f} {row['unit']:<20}{row['bound']:<12}"
        f"{words[row['within']]}"
        for row in rows
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few images; nothing is written")
    parser.add_argument("--case", choices=sorted(_CASES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
