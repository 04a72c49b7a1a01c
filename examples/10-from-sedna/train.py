"""A training script for Sedna, as its users write them: nothing of Fedloom in it."""

import numpy as np
from sedna.common.config import BaseConfig, Context
from sedna.core.federated_learning import FederatedLearning
from sedna.datasources import TxtDataParse

PIXELS, DIGITS = 64, 10


def read_line(line):
    """Turn a line of the dataset into pixels and digit."""
    numbers = [int(word) for word in line.split()]
    return [np.array(numbers[:-1], dtype=np.float32) / 16, numbers[-1]]


class Estimator:
    """Softmax regression with the methods of a Keras estimator."""

    def __init__(self):
        self.kernel = np.zeros((PIXELS, DIGITS), dtype=np.float32)
        self.bias = np.zeros(DIGITS, dtype=np.float32)

    def train(self, train_data, valid_data=None, epochs=1, batch_size=32, learning_rate=0.1):
        """Train by gradient descent; give what is worth knowing of it."""
        x, y = np.asarray(train_data.x), np.asarray(train_data.y)
        for _ in range(epochs):
            for start in range(0, len(y), batch_size):
                batch = slice(start, start + batch_size)
                self._step(x[batch], y[batch], learning_rate)
        return {"accuracy": float((self.predict(x).argmax(axis=1) == y).mean())}

    def _step(self, x, y, learning_rate):
        error = self.predict(x) - np.eye(DIGITS, dtype=np.float32)[y]
        self.kernel -= learning_rate * x.T @ error / len(y)
        self.bias -= learning_rate * error.mean(axis=0)

    def predict(self, x):
        """Give the probability of each digit."""
        scores = np.exp(x @ self.kernel + self.bias)
        return scores / scores.sum(axis=1, keepdims=True)

    def get_weights(self):
        """Give the weights as a list, as Keras does."""
        return [self.kernel, self.bias]

    def set_weights(self, weights):
        """Take over a list of weights."""
        self.kernel, self.bias = (np.array(each, dtype=np.float32) for each in weights)

    def save(self, model_url):
        """Save the weights in the way this script likes."""
        np.savez(model_url, kernel=self.kernel, bias=self.bias)


def main():
    """Train."""
    data = TxtDataParse(data_type="train", func=read_line)
    data.parse(BaseConfig.train_dataset_url)
    job = FederatedLearning(estimator=Estimator, aggregation="FedAvg")
    job.train(
        train_data=data,
        epochs=int(Context.get_parameters("epochs", 1)),
        batch_size=int(Context.get_parameters("batch_size", 32)),
        learning_rate=float(Context.get_parameters("learning_rate", 0.1)),
    )


if __name__ == "__main__":
    main()
