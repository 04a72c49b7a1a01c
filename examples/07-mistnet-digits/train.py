"""A digits classifier in two parts: edges run the first layer, the cloud trains the rest on their bits."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import fedloom
from fedloom.errors import UpdateError
from fedloom.training.numpy import batches
from fedloom.training.split import BAD_EXAMPLE, Example, FeatureSource, Parts

Arrays = dict[str, np.ndarray]

SIDE, CHANNELS, HIDDEN = 8, 24, 128


class Digits:
    """What `fedloom.training.split.SplitModel` asks for; no method knows of noise or of other edges."""

    shape = (CHANNELS, SIDE, SIDE)
    label_columns = 1

    def __init__(self, client: fedloom.Client) -> None:
        cut = client.hyperparameters.get("cutLayer", 1)
        if cut != 1:
            raise ValueError(
                f"cutLayer: got {cut}, expected 1: this network has one layer to release"
            )
        self.epochs = client.hyperparameters["epochs"]
        self.batch_size = client.hyperparameters["batchSize"]
        self.learning_rate = np.float32(client.hyperparameters["learningRate"])
        self.description = {"network": "digits", "cut_layer": cut, "size": [SIDE, SIDE]}

    def initialize(self, seed: int) -> Parts:
        """Random filters that see no plain brightness, never trained; and a fresh perceptron."""
        rng = np.random.default_rng(seed)
        filters = rng.normal(size=(9, CHANNELS))
        extractor = {
            "filters.weight": (filters - filters.mean(axis=0)).astype(np.float32),
            "filters.bias": rng.normal(scale=0.3, size=CHANNELS).astype(np.float32),
        }
        size = int(np.prod(self.shape))
        tail = {
            "hidden.weight": rng.normal(0, (2 / size) ** 0.5, (size, HIDDEN)).astype(np.float32),
            "hidden.bias": np.zeros(HIDDEN, np.float32),
            "output.weight": rng.normal(0, (2 / HIDDEN) ** 0.5, (HIDDEN, 10)).astype(np.float32),
            "output.bias": np.zeros(10, np.float32),
        }
        return Parts(extractor, tail)

    def examples(self, dataset: str, purpose: str) -> list[Example]:
        """All of a folder: no digits are held back in it, whatever they are wanted for."""
        found = []
        for path in sorted(Path(dataset).glob("*.pgm")):
            data = path.read_bytes()
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            found.append(Example(str(path), digest, len(data)))
        return found

    def load(self, example: Example) -> np.ndarray:
        data = Path(example.source).read_bytes()
        header, pixels = data[: -SIDE * SIDE], data[-SIDE * SIDE :]
        if header.split() != [b"P5", b"8", b"8", b"255"]:
            raise UpdateError(BAD_EXAMPLE, f"{example.source}: expected a grey image of 8 x 8")
        return np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE, 1).astype(np.float32) / 255

    def labels(self, example: Example) -> np.ndarray:
        _, _, digit = Path(example.source).stem.rpartition("-")
        if digit not in set("0123456789"):
            raise UpdateError(BAD_EXAMPLE, f"{example.source}: expected <number>-<digit>.pgm")
        return np.array([[int(digit)]], np.float32)

    def extract(self, extractor: Arrays, image: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(image[:, :, 0], 1), (3, 3))
        features = windows.reshape(-1, 9) @ extractor["filters.weight"] + extractor["filters.bias"]
        return np.ascontiguousarray(features.T).reshape(self.shape)

    def train(
        self, tail: Arrays, features: FeatureSource, context: fedloom.Round
    ) -> fedloom.Update:
        """Momentum and weight decay; long training would learn the noise by heart."""
        moments = {name: np.zeros_like(array) for name, array in tail.items()}
        losses = []
        for batch in batches(len(features), self.batch_size, context.seed, self.epochs):
            x, y = stacked(features, batch)
            gradients, loss = gradients_of(tail, x, y)
            for name, gradient in gradients.items():
                moments[name] = 0.9 * moments[name] + gradient + np.float32(2e-3) * tail[name]
                tail[name] -= self.learning_rate * moments[name]
            losses.append(loss)
        return fedloom.Update(
            tail,
            num_examples=len(features),
            num_steps=len(losses),
            metrics={"loss": float(np.mean(losses[-len(losses) // self.epochs :]))},
        )

    def evaluate(self, tail: Arrays, features: FeatureSource) -> fedloom.Evaluation:
        hits = 0
        for batch in in_order(len(features), 256):
            x, y = stacked(features, batch)
            hits += int((forward(tail, x)[1].argmax(axis=1) == y).sum())
        return fedloom.Evaluation(len(features), {"accuracy": hits / len(features)})

    @staticmethod
    def predict(model: Arrays, inputs: np.ndarray) -> np.ndarray:
        """Give each image, a row of 64 pixels in [0, 1], its ten class probabilities."""
        images = np.pad(inputs.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
        features = windows.reshape(len(inputs), -1, 9) @ model["filters.weight"]
        bits = (features + model["filters.bias"]).transpose(0, 2, 1) > 0
        return forward(model, bits.reshape(len(inputs), -1).astype(np.float32))[1]


def stacked(features: FeatureSource, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read a batch: only these features are in memory."""
    pairs = [features.read(int(index)) for index in indices]
    x = np.stack([values.reshape(-1) for values, _ in pairs])
    return x, np.array([int(labels[0, 0]) for _, labels in pairs])


def in_order(count: int, size: int) -> Iterator[np.ndarray]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def forward(tail: Arrays, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the hidden activations and the class probabilities of a batch."""
    hidden = np.maximum(x @ tail["hidden.weight"] + tail["hidden.bias"], 0)
    scores = hidden @ tail["output.weight"] + tail["output.bias"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def gradients_of(tail: Arrays, x: np.ndarray, y: np.ndarray) -> tuple[Arrays, float]:
    """Give the gradients of the mean cross-entropy of a batch, and the loss itself."""
    hidden, probabilities = forward(tail, x)
    slope = (probabilities - np.eye(10, dtype=np.float32)[y]) / np.float32(len(y))
    slope_hidden = (slope @ tail["output.weight"].T) * (hidden > 0)
    gradients = {
        "hidden.weight": x.T @ slope_hidden,
        "hidden.bias": slope_hidden.sum(axis=0),
        "output.weight": hidden.T @ slope,
        "output.bias": slope.sum(axis=0),
    }
    return gradients, float(-np.mean(np.log(probabilities[np.arange(len(y)), y] + 1e-12)))


fedloom.main(Digits)
