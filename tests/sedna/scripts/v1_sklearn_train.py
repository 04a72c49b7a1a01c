"""A training script for Sedna's first interface whose estimator wraps one of scikit-learn's."""

import numpy as np
from sedna.core.federated_learning import FederatedLearning
from sklearn.linear_model import SGDClassifier
from v1_train import CLASSES, FEATURES, load_data


class Estimator:
    """Only a model: its coefficients are its weights."""

    def __init__(self):
        self.model = SGDClassifier(loss="log_loss", random_state=3)
        self.model.partial_fit(
            np.zeros((CLASSES, FEATURES)), np.arange(CLASSES), np.arange(CLASSES)
        )

    def train(self, train_data, valid_data=None):
        """Go on from the weights that are there."""
        x = train_data.x.astype(np.float64)  # the dtype that __init__ began with
        self.model.partial_fit(x, train_data.y)
        return {"accuracy": self.model.score(x, train_data.y)}


if __name__ == "__main__":
    FederatedLearning(estimator=Estimator).train(load_data())
