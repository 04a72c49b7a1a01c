"""A job with a handful of digits, and the jobs that it could learn from; one process, no engine.

The target: scikit-learn's digits with half the contrast and Gaussian noise, 2, 4 or 10 of each digit
for all five clients together (Dirichlet 0.5), 360 to test on. The sources: perceptrons that five other
clients trained for 50 rounds on 900 clean digits, as they are (`related`), with the pixels in another
order (`permuted`), or with every label three too high (`labelshift`).

Averaging, drift correction, heads, and the choice are Fedloom's own functions; model and training step
are those of the other benchmarks (`peers/digits.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from peers import digits
from peers.digits import Correct, Images, Model

from fedloom.algorithms.aggregation.mean import Mean
from fedloom.algorithms.aggregation.source import ArraySource
from fedloom.algorithms.aggregation.weights import weigh
from fedloom.algorithms.layout import layout_of
from fedloom.algorithms.transfer.answers import Probe
from fedloom.algorithms.transfer.body import transferred, without_own, zero_head
from fedloom.algorithms.transfer.head import head_of
from fedloom.training.numpy import dirichlet_split

CLIENTS = 5
SOURCE_IMAGES, TEST_IMAGES = 900, 360
ROUNDS = 50
CONTRAST, BRIGHTNESS, NOISE = 0.5, 0.25, 0.2
ALPHA = 0.5
HEAD = head_of(layout_of(digits.initial_model()))
BODY = frozenset(digits.initial_model()) - HEAD
_PASSES = 20


@dataclass(frozen=True, eq=False)
class Target:
    """What the small job has: each client's images, and images to test on."""

    clients: Sequence[Images]
    test: Images

    @property
    def samples(self) -> int:
        return sum(len(images.y) for images in self.clients)


@cache
def _all_digits(seed: int) -> Images:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    return Images((pixels[order] / 16).astype(np.float32), labels[order].astype(np.int64))


def target_of(seed: int, per_class: int) -> Target:
    """Give the small job's images: `per_class` of each digit for all clients together."""
    pool, test = pool_of(seed)
    rows = np.concatenate([np.flatnonzero(pool.y == digit)[:per_class] for digit in range(10)])
    images = Images(pool.x[rows], pool.y[rows])
    parts = dirichlet_split(images.y, CLIENTS, ALPHA, seed)
    return Target([Images(images.x[part], images.y[part]) for part in parts], test)


@cache
def pool_of(seed: int) -> tuple[Images, Images]:
    """Give all images like the target's that no source has seen, and the test images."""
    x, y = _all_digits(seed)
    rng = np.random.default_rng((seed, 1))
    faint = CONTRAST * x + BRIGHTNESS + rng.normal(0, NOISE, x.shape)
    first, second = SOURCE_IMAGES, SOURCE_IMAGES + TEST_IMAGES
    faint = faint.astype(np.float32)
    return Images(faint[second:], y[second:]), Images(faint[first:second], y[first:second])


@cache
def source(seed: int, kind: str, amount: float = 1.0, start: int = 77) -> Model:
    """Give a source's final model; the mapping is not to be changed.

    Args:
        seed: of the images and their split.
        kind: related, permuted (`amount` of the pixels, in another order), labelshift, or swapped
            (`amount` of the labels, each taken for another of them).
        start: of its first model, drawn by `seed + start`.
    """
    images = _all_digits(seed)
    x, y = images.x[:SOURCE_IMAGES], images.y[:SOURCE_IMAGES]
    rng = np.random.default_rng((seed, 2))
    if kind == "permuted":
        x = x[:, _moved(64, amount, rng)]
    elif kind == "swapped":
        y = _moved(10, amount, rng)[y]
    elif kind == "labelshift":
        y = (y + 3) % 10
    parts = dirichlet_split(y, CLIENTS, ALPHA, seed, min_examples=10)
    clients = [Images(x[part], y[part]) for part in parts]
    return train(digits.initial_model(seed + start), clients, ROUNDS)


def _moved(size: int, amount: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Give an order in which `amount` of all places have changed, each for another of them."""
    order = np.arange(size)
    some = rng.permutation(size)[: round(amount * size)]
    order[some] = np.roll(some, 1)
    return order


def scratch(seed: int) -> Model:
    """Give the small job's own first model."""
    return digits.initial_model(seed)


def loud(seed: int) -> Model:
    """Give a body that has learnt nothing, but whose features are three times as large."""
    model = digits.initial_model(seed + 500)
    return {**model, "w1": model["w1"] * np.float32(3)}


def with_new_head(body: Model) -> Model:
    """Give the body with a head at zero."""
    return zero_head(body, HEAD)


def train(
    model: Model,
    clients: Sequence[Images],
    rounds: int,
    *,
    first: int = 1,
    correct: Correct | None = None,
    held: Collection[str] = (),
) -> Model:
    """Train by FedAvg, all clients in every round; arrays named in `held` stay as they are."""
    layout = layout_of(model)
    weights = weigh("examples", [len(images.y) for images in clients], [])
    rule = Mean(divisor=weights.divisor)
    for number in range(first, first + rounds):
        updates = []
        for client, images in enumerate(clients):
            trained = digits.train(model, images, number, client, correct)
            updates.append({name: array - model[name] for name, array in trained.items()})
        after = {name: array.copy() for name, array in model.items()}
        sources = [ArraySource(update) for update in updates]
        for block in rule.aggregate(sources, weights.values, layout):
            if block.name not in held:
                flat = after[block.name].reshape(-1)
                flat[block.start : block.start + block.values.size] += block.values
        model = after
    return model


def accuracy(model: Model, images: Images) -> float:
    return digits.evaluate(model, images)["accuracy"]


def zero_shot(model: Model, clients: Sequence[Images]) -> dict[str, Probe]:
    """Ask every client how a model does on its images."""
    return {
        f"client-{number}": Probe(digits.evaluate(model, images)["loss"], len(images.y))
        for number, images in enumerate(clients)
    }


def probe_full(
    models: Mapping[str, Model], clients: Sequence[Images]
) -> dict[str, dict[str, Probe]]:
    """Probe whole models, and scratch: any of them with a head at zero."""
    nothing = zero_head(next(iter(models.values())), HEAD)
    return {
        name: zero_shot(model, clients) for name, model in {"scratch": nothing, **models}.items()
    }


def probe_body(body: Model, clients: Sequence[Images], passes: int = _PASSES) -> dict[str, Probe]:
    """Let every client try a head that the others trained on this body, in one exchange.

    Each trains a new head for `passes` passes over its images with the body held; the heads are
    averaged; each takes its own out of the average and says what the rest is worth on its images.
    """
    start = with_new_head(body)
    heads = [train(start, [images], passes, held=BODY) for images in clients]
    counts = np.array([len(images.y) for images in clients], float)
    shares = counts / counts.sum()
    mean = {
        name: np.asarray(sum(s * head[name] for s, head in zip(shares, heads, strict=True)))
        for name in HEAD
    }
    found = {}
    for number, (images, head) in enumerate(zip(clients, heads, strict=True)):
        own = {name: head[name] for name in HEAD}
        others = without_own(mean, own, float(shares[number]))
        others = {name: array.astype(np.float32) for name, array in others.items()}
        judged = transferred(start, others, HEAD)
        found[f"client-{number}"] = zero_shot(judged, [images])["client-0"]
    return found


def probe_by_training_loss(body: Model, clients: Sequence[Images], rounds: int) -> dict[str, Probe]:
    """Train a head for some rounds, and say how well it does on what it was trained on."""
    return zero_shot(train(with_new_head(body), clients, rounds, held=BODY), clients)
