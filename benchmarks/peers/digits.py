"""The task that every system solves: model, data, seeds. Written once, used by all of them.

A perceptron 64-200-10 (15,010 float32 parameters) on scikit-learn's 8x8 digits, 1437 images to
train on and 360 to test, the training images split over 10 clients by a Dirichlet(0.5) draw per
class. One local epoch of plain SGD, batches of 32 in an order that depends on the round and the
client alone.

`prepare` (run as `python -m peers.digits FOLDER`) needs scikit-learn and writes `.npz` files;
everything else needs numpy only, so that no system pays for the import.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from peers import data_files

TEST_IMAGES = 360
BATCH_SIZE = 32
LEARNING_RATE = 0.1
_CONCENTRATION = 0.5
_SPLIT_SEED = 0
# A client with fewer images than this gives no meaningful step; such a draw is thrown away.
_SMALLEST_CLIENT = 10

Model = dict[str, NDArray[np.float32]]
Correct = Callable[[Model, Model], Model]


class Images(NamedTuple):
    """`x`: (images, 64), float32, in [0, 1]. `y`: (images,), int64, the digit."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]


def prepare(folder: Path) -> None:
    """Write one file per client and the test file into `folder`."""
    clients, test = draw(_SPLIT_SEED, _CONCENTRATION)
    _save(data_files.test_file(folder), test)
    for client, images in enumerate(clients):
        _save(data_files.client_file(folder, client), images)


def draw(seed: int, concentration: float) -> tuple[list[Images], Images]:
    """Give each client's images and the test images; needs scikit-learn.

    Args:
        seed: decides which images are held out for the test and how the others are split.
        concentration: Dirichlet alpha: 100 gives every client the same mix of digits, 0.1 a few
            digits each.
    """
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(digits))
    x = (pixels[order] / 16.0).astype(np.float32)
    y = digits[order].astype(np.int64)
    test = Images(x[:TEST_IMAGES], y[:TEST_IMAGES])
    x, y = x[TEST_IMAGES:], y[TEST_IMAGES:]
    return [Images(x[rows], y[rows]) for rows in _split(y, concentration, generator)], test


def _split(
    y: NDArray[np.int64], concentration: float, generator: np.random.Generator
) -> list[NDArray[np.intp]]:
    while True:
        parts: list[list[NDArray[np.intp]]] = [[] for _ in range(data_files.CLIENTS)]
        for digit in range(10):
            rows = np.flatnonzero(y == digit)
            shares = generator.dirichlet(np.full(data_files.CLIENTS, concentration))
            cuts = (np.cumsum(shares)[:-1] * len(rows)).astype(int)
            for part, chunk in zip(parts, np.split(rows, cuts), strict=True):
                part.append(chunk)
        split = [np.sort(np.concatenate(part)) for part in parts]
        if min(len(rows) for rows in split) >= _SMALLEST_CLIENT:
            return split


def _save(path: Path, images: Images) -> None:
    np.savez(path, x=images.x, y=images.y)


@cache
def load(path: Path) -> Images:
    """Read a file written by `prepare`; a second call in the same process gives the same arrays."""
    with np.load(path, allow_pickle=False) as arrays:
        return Images(arrays["x"], arrays["y"])


def steps_of(images: Images) -> int:
    """Give the number of optimisation steps of one local epoch."""
    return -(-len(images.y) // BATCH_SIZE)


def initial_model(seed: int = 0) -> Model:
    """Give the model that every system starts from, the same on every call with the same seed."""
    generator = np.random.default_rng(seed)
    return {
        "w1": (generator.standard_normal((64, 200)) * np.sqrt(2 / 64)).astype(np.float32),
        "b1": np.zeros(200, np.float32),
        "w2": (generator.standard_normal((200, 10)) * np.sqrt(2 / 200)).astype(np.float32),
        "b2": np.zeros(10, np.float32),
    }


def train(
    model: Model,
    images: Images,
    round_number: int,
    client: int,
    correct: Correct | None = None,
) -> Model:
    """Give the weights after one local epoch; `model` stays as it is.

    `correct(gradients, weights)` is asked before every step, where it is given.
    """
    w1, b1, w2, b2 = (model[name].copy() for name in ("w1", "b1", "w2", "b2"))
    order = np.random.default_rng(round_number * 1000 + client).permutation(len(images.y))
    for start in range(0, len(order), BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        x, y = images.x[rows], images.y[rows]
        hidden = np.maximum(x @ w1 + b1, 0)
        slope = _probabilities(hidden @ w2 + b2)
        slope[np.arange(len(y)), y] -= 1
        slope /= np.float32(len(y))
        hidden_slope = (slope @ w2.T) * (hidden > 0)
        gradients = {
            "w1": x.T @ hidden_slope,
            "b1": hidden_slope.sum(axis=0),
            "w2": hidden.T @ slope,
            "b2": slope.sum(axis=0),
        }
        if correct is not None:
            gradients = correct(gradients, {"w1": w1, "b1": b1, "w2": w2, "b2": b2})
        w2 -= LEARNING_RATE * gradients["w2"]
        b2 -= LEARNING_RATE * gradients["b2"]
        w1 -= LEARNING_RATE * gradients["w1"]
        b1 -= LEARNING_RATE * gradients["b1"]
    return {"w1": w1, "b1": b1, "w2": w2, "b2": b2}


def evaluate(model: Model, images: Images) -> dict[str, float]:
    """Give accuracy (share of images, 0 to 1) and loss (mean cross-entropy, nats)."""
    hidden = np.maximum(images.x @ model["w1"] + model["b1"], 0)
    probabilities = _probabilities(hidden @ model["w2"] + model["b2"])
    hits = probabilities.argmax(axis=1) == images.y
    chosen = probabilities[np.arange(len(images.y)), images.y].astype(np.float64)
    return {
        "accuracy": float(hits.mean()),
        "loss": float(-np.log(np.maximum(chosen, 1e-30)).mean()),
    }


def _probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
