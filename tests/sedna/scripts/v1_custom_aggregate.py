"""An aggregating script with an aggregation of its own: the median of the clients' weights."""

import numpy as np
from sedna.algorithms.aggregation import AggClient
from sedna.algorithms.aggregation.aggregation import BaseAggregation
from sedna.common.class_factory import ClassFactory, ClassType
from sedna.service.server import AggregationServer


@ClassFactory.register(ClassType.FL_AGG)
class MiddleAggregation(BaseAggregation):
    """The median, each client once, however many samples it has."""

    def aggregate(self, clients):
        """Give nested lists, as aggregations of old do."""
        assert all(isinstance(client, AggClient) for client in clients)
        self.total_size = sum(client.num_samples for client in clients)
        places = range(len(clients[0].weights))
        self.weights = [
            np.median([np.array(client.weights[place]) for client in clients], axis=0).tolist()
            for place in places
        ]
        return self.weights


if __name__ == "__main__":
    AggregationServer(aggregation="MiddleAggregation", exit_round=2, participants_count=2).start()
