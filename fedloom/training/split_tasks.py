"""The tasks of a mistnet job in the user's process: from files to files, whoever calls.

    prepare-extractor -> on each edge: release -> train-tail -> evaluate -> leakage-report

The class that the script hands to `fedloom.main` is made with a `fedloom.Client` and is a `SplitModel`.
Raw features exist here only, one image's at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fedloom.algorithms.layout import check_update, layout_of
from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.pooled_releases import Expected, PooledReleases, open_release
from fedloom.errors import JobError, UpdateError
from fedloom.training.context import Evaluation, Update
from fedloom.training.environment import TaskEnvironment
from fedloom.training.feature_release import ReleaseOrder, release_features
from fedloom.training.held_out import Selected, held_out, trained_on
from fedloom.training.leakage import LeakageMeasurement
from fedloom.training.script import arrays_of, plain_number, round_of, write_whole
from fedloom.training.split import (
    BAD_EXAMPLE,
    TRIAL,
    Array,
    Example,
    ExtractedFeatures,
    Parts,
    SplitModel,
)
from fedloom.training.split_environment import SplitEnvironment
from fedloom.training.split_parts import (
    ExtractorFacts,
    check_extractor,
    dump_extractor,
    first_parts,
    joined,
    load_extractor,
    tail_of,
)

RELEASES = "clients.json"
"""In the folder of releases: a list of {`name`, `num_examples`, `path`, `digest`}, sorted by name."""
_NEEDED = ("initialize", "examples", "load", "labels", "extract", "train", "evaluate")


def perform(model: Any, environment: TaskEnvironment) -> None:
    """Do the environment's task. Raises JobError, UpdateError; what the model raises passes."""
    missing = [name for name in _NEEDED if not callable(getattr(model, name, None))]
    if missing:
        raise JobError(
            "ScriptFailed",
            f"{type(model).__name__} has no {', '.join(missing)}: a mistnet job needs a class as "
            "fedloom.training.split.SplitModel describes it",
        )
    _TASKS[environment.task](model, environment)


def _prepare(model: SplitModel, environment: TaskEnvironment) -> None:
    assert environment.update is not None
    split = _split(environment)
    assert split.extractor is not None
    parts = first_parts(model, environment.seed, split.pretrained)
    write_whole(environment.update, dump_arrays(joined(parts)))
    write_whole(split.extractor, dump_extractor(model, parts.extractor))


def _release(model: SplitModel, environment: TaskEnvironment) -> None:
    split = _split(environment)
    assert environment.model is not None
    assert environment.update is not None
    assert split.node is not None
    extractor, facts = load_extractor(environment.model)
    check_extractor(model, extractor, facts)
    order = ReleaseOrder(
        edge=environment.client,
        dataset=environment.dataset,
        mechanism=split.mechanism,
        max_epsilon=split.max_epsilon,
        state=split.node,
    )
    released = release_features(model, extractor, order, environment.update)
    manifest = released.manifest
    print(
        f"released {manifest.images} images ({manifest.taken}); left out {manifest.duplicates} copies "
        f"and {manifest.dropped} unusable"
    )
    _write_result(environment, released.manifest.images, {})


def _train(model: SplitModel, environment: TaskEnvironment) -> None:
    assert environment.model is not None
    assert environment.update is not None
    extractor, facts = _extractor(model, environment)
    tail = tail_of(load_arrays(environment.model)[0], extractor)
    layout = layout_of(tail)
    with _pool(environment, facts) as pool:
        features = Selected(pool, trained_on(pool, _held_out_part(environment)))
        update = _of(Update, model.train(tail, features, round_of(environment)), "train")
    arrays = arrays_of(update.model)
    check_update(layout, arrays)
    write_whole(environment.update, dump_arrays(joined(Parts(extractor, arrays))))
    told = {"num_steps": update.num_steps}
    _write_result(environment, update.num_examples, update.metrics, told)


def _evaluate(model: SplitModel, environment: TaskEnvironment) -> None:
    assert environment.model is not None
    extractor, facts = _extractor(model, environment)
    tail = tail_of(load_arrays(environment.model)[0], extractor)

    def tried(features: Any) -> Evaluation:
        found: Evaluation = _of(Evaluation, model.evaluate(tail, features), "evaluate")
        return found

    if not environment.dataset:
        with _pool(environment, facts) as pool:
            held = held_out(pool, _held_out_part(environment))
            if not len(held):
                message = (
                    "got no released image to try the tail on: parameters.holdOut is too small"
                )
                raise JobError("EvaluationFailed", message)
            found = tried(Selected(pool, held))
        _write_result(environment, found.num_examples, found.metrics)
        return
    examples = _usable(model, environment)
    mechanism = _split(environment).mechanism
    measurement = LeakageMeasurement(model, extractor, mechanism, environment.seed)
    found = tried(measurement.released(examples))
    metrics = dict(found.metrics)
    if not mechanism.is_noiseless:
        clean = ExtractedFeatures(model, extractor, examples, RandomizedResponse(float("inf")))
        metrics |= {f"clean/{name}": value for name, value in tried(clean).metrics.items()}
    _write_result(environment, found.num_examples, metrics)


def _report(model: SplitModel, environment: TaskEnvironment) -> None:
    extractor, _ = _extractor(model, environment)
    split = _split(environment)
    examples = _usable(model, environment)
    order = np.random.Generator(np.random.PCG64(environment.seed)).permutation(len(examples))
    most = int(split.parameters.get("leakageImages", len(examples)))
    chosen = [examples[int(index)] for index in order[:most]]
    measurement = LeakageMeasurement(model, extractor, split.mechanism, environment.seed)
    linkage, inversion, notes = None, None, []
    if len(chosen) >= 2:
        linkage = asdict(measurement.link(chosen))
        half = len(chosen) // 2
        try:
            inversion = asdict(measurement.invert(chosen[:half], chosen[half:]))
        except JobError as error:
            notes.append(f"ridge inversion was not tried: {error.message}")
    else:
        notes.append(f"attacks need two images or more, got {len(chosen)}")
    told = {"linkage": linkage, "inversion": inversion, "notes": notes}
    _write_result(environment, max(1, len(chosen)), {}, told)


_TASKS: dict[str, Callable[[SplitModel, TaskEnvironment], None]] = {
    "prepare-extractor": _prepare,
    "release": _release,
    "train-tail": _train,
    "evaluate": _evaluate,
    "leakage-report": _report,
}


def _split(environment: TaskEnvironment) -> SplitEnvironment:
    assert environment.split is not None
    return environment.split


def _held_out_part(environment: TaskEnvironment) -> float:
    return float(_split(environment).parameters.get("holdOut", 0.0))


def _extractor(
    model: SplitModel, environment: TaskEnvironment
) -> tuple[dict[str, Array], ExtractorFacts]:
    path = _split(environment).extractor
    assert path is not None
    extractor, facts = load_extractor(path)
    check_extractor(model, extractor, facts)
    return extractor, facts


@contextmanager
def _pool(environment: TaskEnvironment, facts: ExtractorFacts) -> Iterator[PooledReleases]:
    """Open all releases, checked anew: nothing is believed of what lies in a folder."""
    assert environment.updates is not None
    expected = Expected(facts.digest, facts.shape, facts.label_columns)
    entries = json.loads((environment.updates / RELEASES).read_bytes())
    releases = [
        open_release(environment.updates / each["path"], each["digest"], each["name"], expected)
        for each in entries
    ]
    with PooledReleases(releases) as pool:
        yield pool


def _usable(model: SplitModel, environment: TaskEnvironment) -> Sequence[Example]:
    """Give the images of the dataset that can be decoded and have labels; where there is none, raise."""
    usable = []
    for example in model.examples(environment.dataset, TRIAL):
        try:
            model.load(example)
            model.labels(example)
        except UpdateError as error:
            if error.reason != BAD_EXAMPLE:
                raise
            print(f"left out: {example.source}: {error.message}")
        else:
            usable.append(example)
    if not usable:
        message = f"got no usable image in {environment.dataset!r}, expected one or more"
        raise UpdateError("NoExamples", message)
    return usable


def _of(kind: type[Any], given: Any, method: str) -> Any:
    if not isinstance(given, kind):
        got = type(given).__name__
        raise JobError("ScriptFailed", f"{method} gave {got}, expected fedloom.{kind.__name__}")
    return given


def _write_result(
    environment: TaskEnvironment, count: int, metrics: Any, told: dict[str, Any] | None = None
) -> None:
    assert environment.result is not None
    path: Path = environment.result
    document = {"num_examples": count, "metrics": dict(metrics), **(told or {})}
    write_whole(path, json.dumps(document, default=plain_number).encode())
