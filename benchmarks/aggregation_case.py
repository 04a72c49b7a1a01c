"""One measured case of `aggregation.py`, in a process of its own: JSON in by argument, JSON out by print.

It runs under Fedloom's Python or a peer's: numpy is all that they share. Each system gets the same
updates, is checked against a float64 mean once, then timed in turn with `numpy.sum` over the same bytes
in memory, then run once more with the high-water mark of resident memory set back before it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from aggregation_references import (
    ITERATIONS,
    PROBE_TENSOR,
    TRIM,
    Update,
    byzantine,
    check,
    make_weights,
    probe,
)

Mean = Callable[[], np.ndarray]
Systems = Callable[["Case", list[Update]], Mean]

FAN_IN = 8
LAYER_PARAMETERS = 1_000_000


class Case(NamedTuple):
    """What is measured: `folder` takes the files of a case that reads from files."""

    system: str
    clients: int
    parameters: int
    repeats: int
    folder: str


def make_update(client: int, parameters: int) -> Update:
    """Give float32 noise in pairs of a large and a small tensor, as in a real model."""
    generator = np.random.default_rng(client)
    shapes = {"kernel": (1000, LAYER_PARAMETERS // 1000 - 1), "bias": (1000,)}
    return {
        f"layer-{layer:02d}/{kind}": generator.standard_normal(shape, dtype=np.float32)
        for layer in range(parameters // LAYER_PARAMETERS)
        for kind, shape in shapes.items()
    }


def fedloom_memory(case: Case, updates: list[Update]) -> Mean:
    """Updates in memory; each block of the mean is dropped, as numpy.sum keeps nothing either."""
    from fedloom.algorithms.aggregation.source import ArraySource

    return _fedloom(case, [ArraySource(update) for update in updates], updates[0])


def fedloom_kept(case: Case, updates: list[Update]) -> Mean:
    """Updates in memory; the mean is collected in new arrays, as the peers give it."""
    from fedloom.algorithms.aggregation.mean import weighted_mean
    from fedloom.algorithms.aggregation.source import ArraySource
    from fedloom.algorithms.layout import layout_of

    sources = [ArraySource(update) for update in updates]
    layout, weights = layout_of(updates[0]), np.array(make_weights(case.clients), np.float64)

    def run() -> np.ndarray:
        result = {name: np.empty(spec.size, np.float32) for name, spec in layout.items()}
        for block in weighted_mean(sources, weights, layout):
            result[block.name][block.start : block.start + block.values.size] = block.values
        return probe(result[PROBE_TENSOR])

    return run


def fedloom_files(case: Case, updates: list[Update]) -> Mean:
    """Plain safetensors files in the page cache, read block by block into scratch memory."""
    from fedloom.artifacts.arrays import ArrayFile, dump_arrays

    class FileSource:
        def __init__(self, path: Path) -> None:
            self._file = ArrayFile(path)

        def read(self, name: str, start: int, stop: int, scratch: np.ndarray) -> np.ndarray:
            out = scratch[: stop - start]
            self._file.read_into(name, start, out)
            return out

    paths = _write(case, (dump_arrays(update) for update in updates))
    return _fedloom(case, [FileSource(path) for path in paths], updates[0])


def fedloom_updates(codec: str) -> Callable[[Case, list[Update]], Mean]:
    """Make the system that reads update files as `aggregate` does, through their codec."""

    def prepare(case: Case, updates: list[Update]) -> Mean:
        from components.update_file import Encoding, UpdateFile, write_update
        from fedloom.algorithms.layout import layout_of
        from fedloom.artifacts.arrays import ArrayFile

        generator = np.random.default_rng(0)
        paths = _write(
            case, (write_update(each, Encoding(codec, {}), generator) for each in updates)
        )
        layout = layout_of(updates[0])
        files = [UpdateFile(ArrayFile(path), layout, codec, {}) for path in paths]
        return _fedloom(case, files, updates[0])

    return prepare


def _fedloom(case: Case, sources: list[Any], like: Update, rule: Any = None) -> Mean:
    from fedloom.algorithms.aggregation.mean import Mean
    from fedloom.algorithms.layout import layout_of

    layout, weights = layout_of(like), np.array(make_weights(case.clients), np.float64)
    rule = Mean() if rule is None else rule
    return lambda: _first(rule.aggregate(sources, weights, layout))


def _first(blocks: Iterable[Any]) -> np.ndarray:
    """Drop every block but the beginning of the probed tensor."""
    kept = np.empty(0, np.float32)
    for block in blocks:
        if block.name == PROBE_TENSOR and block.start == 0:
            kept = probe(block.values)
    return kept


def fedloom_rule(
    rule: str, parameters_for: Callable[[int], dict[str, Any]] = lambda _: {}, clip: float = 0.0
) -> Systems:
    """Make the system that combines updates in memory by a rule, with parameters for K clients."""

    def prepare(case: Case, updates: list[Update]) -> Mean:
        from fedloom.algorithms.aggregation.clipping import ClipToQuantile
        from fedloom.algorithms.aggregation.registry import aggregator
        from fedloom.algorithms.aggregation.source import ArraySource

        made = aggregator(rule, parameters_for(case.clients))
        sources = [ArraySource(update) for update in updates]
        return _fedloom(case, sources, updates[0], ClipToQuantile(made, clip) if clip else made)

    return prepare


def fedloom_tree(case: Case, updates: list[Update]) -> Mean:
    """Sums of groups of `FAN_IN` in memory, kept as files would be, and the mean of the groups."""
    from fedloom.algorithms.aggregation.mean import SUMMED, Mean, group_sums
    from fedloom.algorithms.aggregation.source import ArraySource
    from fedloom.algorithms.layout import layout_of

    layout, weights = layout_of(updates[0]), np.array(make_weights(case.clients), np.float64)
    sources, total = [ArraySource(update) for update in updates], float(weights.sum())

    def run() -> np.ndarray:
        groups = []
        for first in range(0, case.clients, FAN_IN):
            there = slice(first, first + FAN_IN)
            sums = {name: np.empty(spec.size, np.float32) for name, spec in layout.items()}
            members = sources[there]
            for block in group_sums(members, weights[there], range(len(members)), layout):
                sums[block.name][block.start : block.start + block.values.size] = block.values
            groups.append(ArraySource(sums))
        rule = Mean(tuple(range(len(groups))), total)
        return _first(rule.aggregate(groups, np.full(len(groups), SUMMED), layout))

    return run


def _write(case: Case, contents: Iterable[bytes]) -> list[Path]:
    paths = []
    for number, content in enumerate(contents):
        paths.append(Path(case.folder) / f"{number:03d}.safetensors")
        with paths[-1].open("wb") as file:
            file.write(content)
            os.fsync(file.fileno())  # so that no write goes on while reads are timed
    return paths


def flower(case: Case, updates: list[Update]) -> Mean:
    """Flower's `aggregate_arrayrecords` on records as they lie in the server's memory."""
    from flwr.common import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    records = [
        RecordDict(
            {
                "arrays": ArrayRecord({name: Array(each) for name, each in update.items()}),
                "metrics": MetricRecord({"num-examples": weight}),
            }
        )
        for update, weight in zip(updates, make_weights(case.clients), strict=True)
    ]
    return lambda: probe(aggregate_arrayrecords(records, "num-examples")[PROBE_TENSOR].numpy())


def nvflare(case: Case, updates: list[Update]) -> Mean:
    """NVFlare's `WeightedAggregationHelper` on arrays in memory."""
    from nvflare.app_common.aggregators.weighted_aggregation_helper import (
        WeightedAggregationHelper,
    )

    updates = list(updates)

    def run() -> np.ndarray:
        helper = WeightedAggregationHelper()
        for client, weight in enumerate(make_weights(case.clients)):
            helper.add(updates[client], weight, f"client-{client}", 1)
        return probe(helper.get_result()[PROBE_TENSOR])

    return run


SYSTEMS: dict[str, Systems] = {
    "fedloom": fedloom_memory,
    "fedloom, mean kept": fedloom_kept,
    "fedloom, files": fedloom_files,
    "fedloom, none update files": fedloom_updates("none"),
    "fedloom, int8 update files": fedloom_updates("int8"),
    "fedloom, tree of 8": fedloom_tree,
    "fedloom, clipped to median": fedloom_rule("mean", clip=0.5),
    "fedloom, median": fedloom_rule("median"),
    "fedloom, trimmed-mean": fedloom_rule("trimmed-mean", lambda _: {"trim": TRIM}),
    "fedloom, multi-krum": fedloom_rule(
        "multi-krum", lambda clients: {"byzantine": byzantine(clients)}
    ),
    "fedloom, geometric-median": fedloom_rule(
        "geometric-median", lambda _: {"iterations": ITERATIONS}
    ),
    "flower": flower,
    "nvflare": nvflare,
}


def measure(case: Case) -> dict[str, Any]:
    """Give seconds of the system and of numpy.sum and their ratio, and bytes over the base.

    Medians; that of the ratio over the pairs, so that what slows both down for a while cancels.
    """
    updates = [make_update(client, case.parameters) for client in range(case.clients)]
    mean = SYSTEMS[case.system](case, updates)
    check(case.system, mean(), updates)
    timings = [(_seconds(mean), _seconds(lambda: _sum(updates))) for _ in range(case.repeats)]
    updates.clear()  # a system that holds the arrays themselves has them still
    seconds, sum_seconds = (statistics.median(column) for column in zip(*timings, strict=True))
    return {
        "seconds": seconds,
        "sum_seconds": sum_seconds,
        "ratio": statistics.median(plain / own for own, plain in timings),
        "memory_bytes": _memory_bytes(mean),
        "numpy": np.__version__,
    }


def _sum(updates: list[Update]) -> None:
    for update in updates:
        for tensor in update.values():
            np.sum(tensor)


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _memory_bytes(run: Callable[[], object]) -> int:
    gc.collect()
    # Free pages that the allocator holds would hide what the run needs.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS
    base = _status_bytes("VmRSS")
    run()
    return _status_bytes("VmHWM") - base


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    print(json.dumps(measure(Case(**json.loads(sys.argv[1])))))
