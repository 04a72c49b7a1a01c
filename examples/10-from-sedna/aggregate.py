"""An aggregating script for Sedna, as its users write them: nothing of Fedloom in it."""

from sedna.common.config import Context
from sedna.service.server import AggregationServer


def main():
    """Serve the rounds."""
    server = AggregationServer(
        aggregation="FedAvg",
        exit_round=int(Context.get_parameters("exit_round", 10)),
        participants_count=int(Context.get_parameters("participants_count", 2)),
        ws_size=20 * 1024 * 1024,
    )
    server.start()


if __name__ == "__main__":
    main()
