"""A small convolutional network that reads handwritten digits, in torch."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import fedloom
from fedloom.training.numpy import batches
from fedloom.training.torch import (
    bound_threads,
    corrected,
    load_weights,
    seed_everything,
    weights_of,
)


class Digits:
    def __init__(self, client: fedloom.Client) -> None:
        bound_threads(1)  # one thread adds in one order: the same bits with any --parallel
        data = np.load(client.dataset)
        self.x, self.y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
        self.settings = client.hyperparameters
        self.network = network()

    @staticmethod
    def initialize(seed: int) -> dict[str, np.ndarray]:
        seed_everything(seed)
        return weights_of(network())

    def train(self, model: dict[str, np.ndarray], context: fedloom.Round) -> fedloom.Update:
        seed_everything(context.seed)
        load_weights(self.network, model)
        self.network.train()
        optimizer = torch.optim.SGD(
            self.network.parameters(), lr=self.settings["learningRate"], momentum=0.9
        )
        optimizer = corrected(optimizer, self.network, context)
        losses = []
        size, epochs = self.settings["batchSize"], self.settings["epochs"]
        for batch in batches(len(self.y), size, context.seed, epochs):
            optimizer.zero_grad()
            loss = cross_entropy(self.network(self.x[batch]), self.y[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return fedloom.Update(
            weights_of(self.network),
            num_examples=len(self.y),
            num_steps=len(losses),
            metrics={"loss": np.mean(losses)},
        )

    @torch.no_grad()
    def evaluate(self, model: dict[str, np.ndarray], context: fedloom.Round) -> fedloom.Evaluation:
        load_weights(self.network, model)
        self.network.eval()
        scores = self.network(self.x)
        hits = scores.argmax(dim=1) == self.y
        return fedloom.Evaluation(
            num_examples=len(self.y),
            metrics={
                "accuracy": hits.double().mean().item(),
                "loss": cross_entropy(scores, self.y).item(),
            },
        )

    @staticmethod
    @torch.no_grad()
    def predict(model: dict[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
        """Give each image, (n, 1, 8, 8) or rows of 64 pixels in [0, 1], its ten probabilities."""
        trained = network()
        load_weights(trained, model)
        trained.eval()
        images = torch.as_tensor(inputs, dtype=torch.float32).reshape(-1, 1, 8, 8)
        return trained(images).softmax(dim=1).numpy()


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, 10),
    )


fedloom.main(Digits)
