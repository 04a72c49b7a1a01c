"""A training script for Sedna's first interface: softmax regression, shaped like a Keras estimator."""

import os

import numpy as np
from sedna.common.config import BaseConfig, Context
from sedna.core.federated_learning import FederatedLearning
from sedna.datasources import TxtDataParse

CLASSES, FEATURES = 3, 8


def read_sample(line):
    """Turn a line of the index into features and label; the file lies beside the index."""
    name, label = line.split()
    folder = os.path.dirname(BaseConfig.train_dataset_url)
    return [np.load(os.path.join(folder, name)), int(label)]


def load_data():
    """Parse the worker's dataset."""
    data = TxtDataParse(data_type="train", func=read_sample)
    data.parse(BaseConfig.train_dataset_url)
    return data


class Estimator:
    """Softmax regression with a hidden state that never leaves: Sedna asks only for the weights."""

    def __init__(self):
        self.kernel = np.random.normal(size=(FEATURES, CLASSES)).astype(np.float32) * 0.1
        self.bias = np.zeros(CLASSES, dtype=np.float32)

    def train(self, train_data, valid_data=None, epochs=1, batch_size=8, learning_rate=0.1):
        """Train by gradient descent and give a history, as Keras does."""
        history = {"loss": [], "accuracy": []}
        for _ in range(epochs):
            order = np.random.permutation(len(train_data))
            losses = []
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                losses.append(self._step(train_data.x[chosen], train_data.y[chosen], learning_rate))
            history["loss"].append(float(np.mean(losses)))
            history["accuracy"].append(self.evaluate(train_data)["accuracy"])
        return history

    def _step(self, x, y, learning_rate):
        probabilities = self.predict(x)
        loss = -np.log(probabilities[np.arange(len(y)), y] + 1e-9).mean()
        error = probabilities.copy()
        error[np.arange(len(y)), y] -= 1
        self.kernel -= learning_rate * (x.T @ error / len(y)).astype(np.float32)
        self.bias -= learning_rate * error.mean(axis=0).astype(np.float32)
        return loss

    def predict(self, x):
        """Give the probabilities of the classes."""
        scores = x @ self.kernel + self.bias
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def evaluate(self, data, **kwargs):
        """Give the accuracy."""
        return {"accuracy": float((self.predict(data.x).argmax(axis=1) == data.y).mean())}

    def get_weights(self):
        """Give the weights as a list."""
        return [self.kernel, self.bias]

    def set_weights(self, weights):
        """Take over a list of weights."""
        self.kernel, self.bias = [np.asarray(w, dtype=np.float32) for w in weights]

    def save(self, model_path=None):
        """Save the weights, the way the script's author likes it."""
        np.savez(model_path, kernel=self.kernel, bias=self.bias)


def main(aggregation="FedAvg"):
    """Train, and look at the result."""
    data = load_data()
    job = FederatedLearning(estimator=Estimator, aggregation=aggregation)
    job.train(
        train_data=data,
        valid_data=None,
        epochs=int(Context.get_parameters("epochs", 2)),
        batch_size=int(Context.get_parameters("batch_size", 8)),
        learning_rate=float(Context.get_parameters("learning_rate", 0.1)),
        validation_split=0.2,  # not in the estimator's signature: left out
    )
    print("after train:", job.evaluate(data))


if __name__ == "__main__":
    main()
