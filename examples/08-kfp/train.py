"""A classifier of handwritten digits in plain numpy: 64 pixels, 200 hidden units, 10 classes."""

import numpy as np

import fedloom
from fedloom.training.numpy import batches

Arrays = dict[str, np.ndarray]


class Digits:
    def __init__(self, client: fedloom.Client) -> None:
        data = np.load(client.dataset)
        self.x, self.y = data["x"], data["y"]
        self.epochs = client.hyperparameters["epochs"]
        self.batch_size = client.hyperparameters["batchSize"]
        self.learning_rate = np.float32(client.hyperparameters["learningRate"])

    @staticmethod
    def initialize(seed: int) -> Arrays:
        rng = np.random.default_rng(seed)
        return {
            "hidden.weight": rng.normal(0, (2 / 64) ** 0.5, (64, 200)).astype(np.float32),
            "hidden.bias": np.zeros(200, np.float32),
            "output.weight": rng.normal(0, (2 / 200) ** 0.5, (200, 10)).astype(np.float32),
            "output.bias": np.zeros(10, np.float32),
        }

    def train(self, model: Arrays, context: fedloom.Round) -> fedloom.Update:
        losses = []
        for batch in batches(len(self.y), self.batch_size, context.seed, self.epochs):
            gradients, loss = gradients_of(model, self.x[batch], self.y[batch])
            gradients = context.correct(gradients, model)
            for name, gradient in gradients.items():
                model[name] -= self.learning_rate * gradient
            losses.append(loss)
        return fedloom.Update(
            model,
            num_examples=len(self.y),
            num_steps=len(losses),
            metrics={"loss": np.mean(losses)},
        )

    def evaluate(self, model: Arrays, context: fedloom.Round) -> fedloom.Evaluation:
        probabilities = self.predict(model, self.x)
        hits = probabilities.argmax(axis=1) == self.y
        return fedloom.Evaluation(
            num_examples=len(self.y),
            metrics={"accuracy": np.mean(hits), "loss": cross_entropy(probabilities, self.y)},
        )

    @staticmethod
    def predict(model: Arrays, inputs: np.ndarray) -> np.ndarray:
        """Give each image, a row of 64 pixels in [0, 1], its ten class probabilities."""
        return forward(model, inputs)[1]


def forward(model: Arrays, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the hidden activations and the class probabilities of a batch."""
    hidden = np.maximum(x @ model["hidden.weight"] + model["hidden.bias"], 0)
    scores = hidden @ model["output.weight"] + model["output.bias"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def gradients_of(model: Arrays, x: np.ndarray, y: np.ndarray) -> tuple[Arrays, float]:
    """Give the gradients of the mean cross-entropy of a batch, and the loss itself."""
    hidden, probabilities = forward(model, x)
    slope = (probabilities - np.eye(10, dtype=np.float32)[y]) / len(y)
    slope_hidden = (slope @ model["output.weight"].T) * (hidden > 0)
    gradients = {
        "hidden.weight": x.T @ slope_hidden,
        "hidden.bias": slope_hidden.sum(axis=0),
        "output.weight": hidden.T @ slope,
        "output.bias": slope.sum(axis=0),
    }
    return gradients, cross_entropy(probabilities, y)


def cross_entropy(probabilities: np.ndarray, y: np.ndarray) -> float:
    return float(-np.mean(np.log(probabilities[np.arange(len(y)), y] + 1e-12)))


fedloom.main(Digits)
