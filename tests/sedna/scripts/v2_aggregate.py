"""An aggregating script for Sedna's second interface."""

from sedna.algorithms.aggregation import FedAvgV2
from sedna.algorithms.client_choose import SimpleClientChoose
from sedna.common.config import Context
from sedna.core.federated_learning import FederatedLearningV2
from sedna.service.server import AggregationServerV2


class Estimator:
    """What the server needs to know of the training."""

    def __init__(self):
        self.model = None
        self.pretrained = None
        self.saved = None
        rounds = int(Context.get_parameters("exit_round", 3))
        self.hyperparameters = {"type": "basic", "rounds": rounds}


def main():
    """Say what is wanted and serve."""
    server = AggregationServerV2(
        data=None,
        estimator=Estimator(),
        aggregation=FedAvgV2(),
        transmitter=FederatedLearningV2.get_transmitter_from_config(),
        chooser=SimpleClientChoose(per_round=2),
    )
    server.start()


if __name__ == "__main__":
    main()
