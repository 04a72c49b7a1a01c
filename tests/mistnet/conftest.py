"""A split model small enough to train in a second: digits, and edges that hold some of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from fedloom.errors import UpdateError
from fedloom.training.context import Evaluation, Round, Update
from fedloom.training.numpy import batches
from fedloom.training.split import BAD_EXAMPLE, Example, Parts

CHANNELS, HIDDEN = 32, 64


class DigitsSplit:
    """An extractor of random 3 x 3 filters, never trained, and a tail with one hidden layer.

    A dataset is a folder of files `<number>-<class>.raw` of 64 bytes, 8 x 8 pixels from 0 to 16.
    """

    shape = (CHANNELS, 4, 4)
    label_columns = 1

    def __init__(self, epochs: int = 30, cut: int = 1) -> None:
        self.epochs = epochs
        self.description = {"cut": cut, "size": [8, 8]}

    def initialize(self, seed: int) -> Parts:
        rng = np.random.default_rng(seed)
        weights = rng.normal(size=(9, CHANNELS))
        extractor = {
            "filters": (weights - weights.mean(axis=0)).astype(np.float32),
            "bias": rng.normal(scale=0.3, size=CHANNELS).astype(np.float32),
        }
        size = int(np.prod(self.shape))
        tail = {
            "w1": rng.normal(scale=size**-0.5, size=(size, HIDDEN)).astype(np.float32),
            "b1": np.zeros(HIDDEN, np.float32),
            "w2": rng.normal(scale=HIDDEN**-0.5, size=(HIDDEN, 10)).astype(np.float32),
            "b2": np.zeros(10, np.float32),
        }
        return Parts(extractor, tail)

    def examples(self, dataset: str, purpose: str = "train") -> list[Example]:
        found = []
        for path in sorted(Path(dataset).glob("*.raw")):
            data = path.read_bytes()
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            found.append(Example(str(path), digest, len(data)))
        return found

    def load(self, example: Example) -> np.ndarray:
        data = Path(example.source).read_bytes()
        if len(data) != 64:
            raise UpdateError(BAD_EXAMPLE, f"got {len(data)} bytes, expected 64")
        return np.frombuffer(data, np.uint8).reshape(8, 8, 1).astype(np.float32) / 16

    def labels(self, example: Example) -> np.ndarray:
        return np.array([[int(Path(example.source).stem.split("-")[1])]], np.float32)

    def extract(self, extractor, image) -> np.ndarray:
        padded = np.pad(image[:, :, 0], 1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))[::2, ::2]
        features = windows.reshape(16, 9) @ extractor["filters"] + extractor["bias"]
        return np.ascontiguousarray(features.T).reshape(self.shape)

    def train(self, tail, features, context: Round) -> Update:
        tail = {name: array.copy() for name, array in tail.items()}
        moments = {name: np.zeros_like(array) for name, array in tail.items()}
        x, y = _all(features)
        for batch in batches(len(y), 32, context.seed, self.epochs):
            hidden, chances = _forward(tail, x[batch])
            slope = (chances - np.eye(10, dtype=np.float32)[y[batch]]) / len(batch)
            back = (slope @ tail["w2"].T) * (hidden > 0)
            gradients = {
                "w1": x[batch].T @ back,
                "b1": back.sum(axis=0),
                "w2": hidden.T @ slope,
                "b2": slope.sum(axis=0),
            }
            for name, gradient in gradients.items():
                moments[name] = 0.9 * moments[name] + gradient + 1e-3 * tail[name]
                tail[name] -= np.float32(0.02) * moments[name]
        return Update(tail, num_examples=len(y))

    def evaluate(self, tail, features) -> Evaluation:
        x, y = _all(features)
        hits = _forward(tail, x)[1].argmax(axis=1) == y
        return Evaluation(len(y), {"accuracy": float(hits.mean())})


def _all(features):
    pairs = [features.read(index) for index in range(len(features))]
    x = np.stack([each.reshape(-1) for each, _ in pairs])
    return x, np.array([int(labels[0, 0]) for _, labels in pairs])


def _forward(tail, x):
    hidden = np.maximum(x @ tail["w1"] + tail["b1"], 0)
    scores = hidden @ tail["w2"] + tail["b2"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, scores / scores.sum(axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def _one_thread():
    """Matrices this small are 25 times slower where two threads wait for each other on a busy machine."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def model():
    return DigitsSplit()


@pytest.fixture
def digits(tmp_path):
    """Write some of the digits as a dataset: a function of a name, the first and how many."""
    data = load_digits()

    def write(name: str, first: int, count: int) -> str:
        folder = tmp_path / name
        folder.mkdir()
        for index in range(first, first + count):
            image, label = data.images[index].astype(np.uint8), data.target[index]
            (folder / f"{index:04}-{label}.raw").write_bytes(image.tobytes())
        return str(folder)

    return write
