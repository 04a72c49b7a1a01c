"""A classifier of handwritten digits in plain numpy: 64 pixels, 200 hidden units, 10 classes."""

import numpy as np

import fedloom


class Digits:
    def __init__(self, client: fedloom.Client):
        data = np.load(client.dataset)
        self.x, self.y = data["x"], data["y"]
        self.epochs = client.hyperparameters["epochs"]
        self.batch_size = client.hyperparameters["batchSize"]
        self.learning_rate = np.float32(client.hyperparameters["learningRate"])

    @staticmethod
    def initialize(seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {
            "hidden.weight": rng.normal(0, (2 / 64) ** 0.5, (64, 200)).astype(np.float32),
            "hidden.bias": np.zeros(200, np.float32),
            "output.weight": rng.normal(0, (2 / 200) ** 0.5, (200, 10)).astype(np.float32),
            "output.bias": np.zeros(10, np.float32),
        }

    def train(self, model: dict[str, np.ndarray], context: fedloom.Round) -> fedloom.Update:
        rng = np.random.default_rng(context.seed)
        losses = []
        for _ in range(self.epochs):
            order = rng.permutation(len(self.y))
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                gradients, loss = self.gradients(model, self.x[batch], self.y[batch])
                gradients = context.correct(gradients, model)
                for name, gradient in gradients.items():
                    model[name] -= self.learning_rate * gradient
                losses.append(loss)
        return fedloom.Update(
            model, num_examples=len(self.y), num_steps=len(losses), metrics={"loss": np.mean(losses)}
        )

    def evaluate(self, model: dict[str, np.ndarray], context: fedloom.Round) -> fedloom.Evaluation:
        scores = self.predict(model, self.x)
        rows = np.arange(len(self.y))
        return fedloom.Evaluation(
            num_examples=len(self.y),
            metrics={
                "accuracy": np.mean(scores.argmax(axis=1) == self.y),
                "loss": -np.mean(np.log(scores[rows, self.y] + 1e-12)),
            },
        )

    @staticmethod
    def predict(model: dict[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
        """Give each image, a row of 64 pixels in [0, 1], its ten class probabilities."""
        hidden = np.maximum(inputs @ model["hidden.weight"] + model["hidden.bias"], 0)
        return softmax(hidden @ model["output.weight"] + model["output.bias"])

    @staticmethod
    def gradients(
        model: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float]:
        """Give the gradients of the mean cross-entropy of a batch, and the loss itself."""
        hidden = np.maximum(x @ model["hidden.weight"] + model["hidden.bias"], 0)
        scores = softmax(hidden @ model["output.weight"] + model["output.bias"])
        rows = np.arange(len(y))
        loss = -np.mean(np.log(scores[rows, y] + 1e-12))
        scores[rows, y] -= 1
        scores /= len(y)
        back = (scores @ model["output.weight"].T) * (hidden > 0)
        gradients = {
            "hidden.weight": x.T @ back,
            "hidden.bias": back.sum(axis=0),
            "output.weight": hidden.T @ scores,
            "output.bias": scores.sum(axis=0),
        }
        return gradients, float(loss)


def softmax(scores: np.ndarray) -> np.ndarray:
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


fedloom.main(Digits)
