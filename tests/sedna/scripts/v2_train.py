"""A training script for Sedna's second interface: a torch model, trained by its hyperparameters."""

import torch
from sedna.algorithms.aggregation import FedAvgV2
from sedna.common.config import Context
from sedna.core.federated_learning import FederatedLearningV2
from torch.utils.data import TensorDataset
from v1_train import CLASSES, FEATURES, load_data


class Data:
    """Training data of the script's own making."""

    customized = True

    def __init__(self):
        data = load_data()
        self.parameters = {}
        self.trainset = TensorDataset(
            torch.as_tensor(data.x, dtype=torch.float32).reshape(-1, FEATURES),
            torch.as_tensor(data.y, dtype=torch.int64),
        )
        self.testset = self.trainset


class Estimator:
    """The model and how to train it."""

    def __init__(self):
        self.model = torch.nn.Sequential(
            torch.nn.Linear(FEATURES, 16),
            torch.nn.BatchNorm1d(16),
            torch.nn.ReLU(),
            torch.nn.Linear(16, CLASSES),
        )
        self.pretrained = None
        self.saved = None
        self.hyperparameters = {
            "type": "basic",
            "rounds": int(Context.get_parameters("exit_round", 3)),
            "target_accuracy": 0.99,
            "epochs": int(Context.get_parameters("EPOCHS", 2)),
            "batch_size": int(Context.get_parameters("BATCH_SIZE", 8)),
            "optimizer": "SGD",
            "learning_rate": float(Context.get_parameters("LEARNING_RATE", 0.05)),
            "momentum": 0.9,
            "weight_decay": 0.0,
        }


def main():
    """Train."""
    torch.set_num_threads(1)
    job = FederatedLearningV2(
        data=Data(),
        estimator=Estimator(),
        aggregation=FedAvgV2(),
        transmitter=FederatedLearningV2.get_transmitter_from_config(),
    )
    job.train()


if __name__ == "__main__":
    main()
