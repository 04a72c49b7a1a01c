"""An aggregating script for Sedna's first interface."""

from sedna.common.config import Context
from sedna.service.server import AggregationServer


def main():
    """Say what is wanted and serve."""
    server = AggregationServer(
        aggregation=Context.get_parameters("aggregation_algorithm", "FedAvg"),
        exit_round=int(Context.get_parameters("exit_round", 3)),
        participants_count=int(Context.get_parameters("participants_count", 2)),
        ws_size=20 * 1024 * 1024,
    )
    server.start()


if __name__ == "__main__":
    main()
