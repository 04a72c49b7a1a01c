"""One configuration of `mistnet.py`, through the product's own code: releases, pool, tail, attacks, mean.

A training begins with the pretrained network and ends with its precision on private pictures that
nobody trained on, the way that it would be used: what learnt from noisy bits is given noisy bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from mistnet_averaging import average
from mistnet_place import CUT, EDGES, SHAPE, SIZE, Place

from detector.augmentation import LIGHT  # isort: skip  (mistnet_place knows where it is)
from detector.checkpoints import read_network  # isort: skip
from detector.network import split  # isort: skip
from detector.recipe import SMALL_RECIPE, Recipe  # isort: skip
from detector.samples import Batch, Samples, collate  # isort: skip
from detector.split_detector import Setting, SplitDetector  # isort: skip
from detector.training import Source, Trainer  # isort: skip

from fedloom.algorithms.mistnet.inversion import RidgeInversion
from fedloom.algorithms.mistnet.manifest import number_or_word
from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse
from fedloom.artifacts.pooled_releases import Expected, PooledReleases, open_release
from fedloom.data.labels import Boxes
from fedloom.data.pictures import Pixels
from fedloom.training.context import Round
from fedloom.training.feature_release import ReleaseOrder, release_features
from fedloom.training.leakage import LeakageMeasurement
from fedloom.training.numpy import batches
from fedloom.training.split import (
    TRAINING,
    TRIAL,
    Array,
    Example,
    ExtractedFeatures,
    FeatureSource,
    Parts,
    extractor_digest,
)
from fedloom.training.split_parts import dump_extractor
from fedloom.training.torch import bound_threads, seed_everything, weights_of

CLEAN = RandomizedResponse(math.inf)
_PUBLIC, _VICTIMS = 256, 128  # pictures that the inversion is fitted on, and tried on
_SHOWN_EVERY = 5  # rounds
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What is done.

    Attributes:
        kind: `public` (the pretrained network as it is), `centralised` (the whole network on all edges'
            pictures), `floats` or `release` (a tail on features), `fedavg`, `leakage`.
        seed: of the private pictures and of the training.
        epsilon: of a bit; infinite for bits as they are, 0 for the floats that they are made of.
        epochs: of the training; rounds, of federated averaging.
        edges: whose releases the tail is trained on.
    """

    kind: str
    seed: int
    epsilon: float = math.inf
    epochs: int = 0
    edges: int = EDGES

    @property
    def name(self) -> str:
        words = (self.kind, self.seed, f"{self.epsilon:g}", self.epochs, self.edges)
        return "-".join(str(word) for word in words)

    def document(self) -> Row:
        """Give it as JSON has it."""
        return {**asdict(self), "epsilon": number_or_word(self.epsilon)}


def perform(case: Case, place: Place) -> Row:
    """Do it, on one thread; give what came of it, and the seconds of a core that it took."""
    bound_threads(1)
    started, used = time.perf_counter(), time.process_time()
    found = _KINDS[case.kind](_Work(case, place))
    seconds = time.perf_counter() - started, time.process_time() - used
    return {**found, "seconds": round(seconds[0], 1), "core_seconds": round(seconds[1], 1)}


class _Work:
    """A case with the pictures and the network that it needs."""

    def __init__(self, case: Case, place: Place) -> None:
        self.case, self.place = case, place
        recipe = replace(SMALL_RECIPE, epochs=max(1, case.epochs))  # the example's own
        setting = Setting(SHAPE, CUT, SIZE, place.pretrained, recipe, "cpu")
        self.model = SplitDetector(setting)
        self.parts = self.model.initialize(case.seed)
        *self.edges, self.rest = place.homes(case.seed)

    @property
    def recipe(self) -> Recipe:
        return self.model.setting.recipe

    @property
    def releases(self) -> Path:
        """Where releases lie, and below it what each edge keeps for itself."""
        return self.place.folder / "releases" / self.case.name

    @cached_property
    def strangers(self) -> Sequence[Example]:
        """Private pictures that no edge has: first those to be tried on, then those to choose by."""
        return list(self.model.examples(str(self.rest), TRIAL))

    @property
    def tests(self) -> Sequence[Example]:
        return self.strangers[: self.place.scale.tests]

    @property
    def trials(self) -> Sequence[Example]:
        return self.strangers[self.place.scale.tests :]

    @property
    def mine(self) -> list[Example]:
        """The edges' own pictures."""
        return [e for home in self.edges for e in self.model.examples(str(home), TRAINING)]

    def told(self, parts: Parts, mechanism: RandomizedResponse | None) -> Row:
        """Give the precision of a network; where a mechanism is named, on what it would release."""
        found: Row = {}
        for name, examples in (("", self.tests), ("trial_", self.trials)):
            features: FeatureSource = Floats(self.model, parts, examples)
            if mechanism is not None:
                measurement = LeakageMeasurement(
                    self.model, parts.extractor, mechanism, self.case.seed
                )
                features = measurement.released(examples)
            metrics = self.model.evaluate(parts.tail, features).metrics
            found |= {f"{name}map50": metrics["mAP50"], f"{name}map": metrics["mAP50-95"]}
        return found

    def map50(self, parts: Parts, features: FeatureSource) -> float:
        return float(self.model.evaluate(parts.tail, features).metrics["mAP50"])


class Floats:
    """Features as they are extracted: never released, only to compare with."""

    def __init__(self, model: SplitDetector, parts: Parts, examples: Sequence[Example]) -> None:
        made = ((model.extract(parts.extractor, model.load(e)), model.labels(e)) for e in examples)
        self._pairs: list[tuple[Array, Array]] = list(made)

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, index: int) -> tuple[Array, Array]:
        return self._pairs[index]


class Together:
    """The pictures of several folders as one."""

    size = SIZE

    def __init__(self, folders: Sequence[Samples]) -> None:
        self._folders = folders

    def __len__(self) -> int:
        return sum(len(folder) for folder in self._folders)

    def __getitem__(self, index: int) -> tuple[Pixels, Boxes]:
        for folder in self._folders:
            if index < len(folder):
                return folder[index]
            index -= len(folder)
        raise IndexError(index)


def _public(work: _Work) -> Row:
    return work.told(work.parts, None)


def _centralised(work: _Work) -> Row:
    seed, recipe = work.case.seed, work.recipe
    seed_everything(seed)
    pictures = Together([Samples(home, SIZE, SHAPE.classes) for home in work.edges])

    def epoch(number: int) -> Iterator[Batch]:
        rng = np.random.default_rng([seed, number])
        for indices in batches(len(pictures), recipe.batch_size, 7919 * number + seed):
            yield collate([LIGHT.apply(pictures, int(index), rng) for index in indices])

    network = read_network(work.place.pretrained)
    done = Trainer(network, recipe).run(Source(epoch, len(pictures), SIZE))
    extractor, tail = split(network, CUT)
    parts = Parts(weights_of(extractor), weights_of(tail))
    return {**work.told(parts, None), "loss": done[-1].loss}


def _floats(work: _Work) -> Row:
    parts = _trained(work, Floats(work.model, work.parts, work.mine))
    return work.told(parts, None)


def _release(work: _Work) -> Row:
    mechanism = RandomizedResponse(work.case.epsilon)
    with _pool(work, mechanism) as pool:
        parts = _trained(work, pool)
        image_bytes = pool.manifests[0].mean_image_bytes
    found = work.told(parts, mechanism)
    clean = ExtractedFeatures(work.model, parts.extractor, work.tests, CLEAN)
    found["clean_map50"] = work.map50(parts, clean)
    if mechanism.is_noiseless:
        found["float_map50"] = work.map50(parts, Floats(work.model, parts, work.tests))
    extractor = len(dump_extractor(work.model, parts.extractor))
    return {
        **found,
        "image_bytes": image_bytes,
        "uplink_bytes": sum(path.stat().st_size for path in work.releases.glob("*.safetensors")),
        "downlink_bytes": extractor * work.case.edges,
    }


def _pool(work: _Work, mechanism: RandomizedResponse) -> PooledReleases:
    """Release as every edge would, with a key and a ledger of its own, and open it as the cloud would."""
    opened = []
    digest = extractor_digest(work.model, work.parts.extractor)
    expected = Expected(digest, work.model.shape, work.model.label_columns, mechanism.flips)
    for number, home in enumerate(work.edges[: work.case.edges]):
        edge = f"edge-{number}"
        order = ReleaseOrder(edge, str(home), mechanism, math.inf, work.releases / edge)
        path = work.releases / f"{edge}.safetensors"
        released = release_features(work.model, work.parts.extractor, order, path)
        opened.append(open_release(path, released.digest, edge, expected))
    return PooledReleases(opened)


def _trained(work: _Work, features: FeatureSource) -> Parts:
    update = work.model.train(work.parts.tail, features, Round(1, 1, work.case.seed))
    return Parts(work.parts.extractor, update.model)


def _fedavg(work: _Work) -> Row:
    found: Row = {"rounds": []}
    for number, parts, traffic in average(work.parts, work.edges, work.case):
        if number % _SHOWN_EVERY == 0 or number == work.case.epochs:
            told = work.told(parts, None)
            found |= told | traffic
            found["rounds"].append({"round": number, **told, **traffic})
    return found


def _leakage(work: _Work) -> Row:
    model, extractor, mine = work.model, work.parts.extractor, work.mine
    public = model.examples(str(work.place.public), TRAINING)[:_PUBLIC]
    if work.case.epsilon == 0:
        pairs = [
            ((model.extract(extractor, model.load(e)), model.load(e)) for e in examples)
            for examples in (public, mine[:_VICTIMS])
        ]
        inversion = RidgeInversion.fit(pairs[0]).measure(pairs[1])
        return {"variance": inversion.variance_recovered, "correlation": inversion.correlation}
    mechanism = RandomizedResponse(work.case.epsilon)
    measurement = LeakageMeasurement(model, extractor, mechanism, work.case.seed)
    inversion = measurement.invert(public, mine[:_VICTIMS])
    linkage = measurement.link(mine)
    return {
        "variance": inversion.variance_recovered,
        "correlation": inversion.correlation,
        "linkage": linkage.top1,
        "candidates": linkage.candidates,
    }


_KINDS = {
    "public": _public,
    "centralised": _centralised,
    "floats": _floats,
    "release": _release,
    "fedavg": _fedavg,
    "leakage": _leakage,
}
