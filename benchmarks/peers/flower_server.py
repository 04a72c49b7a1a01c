"""The Flower run: `run_simulation` in process, message API, its own FedAvg, on Ray.

Chosen as the fastest way that Flower has on one machine: `flwr run` starts a SuperLink and more
processes around the very same simulation. `client_resources` of one CPU lets as many clients train
at once as there are cores (the default of two CPUs per client would halve that). No client is
evaluated; the server evaluates after each aggregation. Ray shows no dashboard, reports nothing, and
is shut down by Flower's backend at the end. All else is as Flower has it, the 0.1 s included
after which its server looks again for replies.

Without `LOOPBACK_ONLY` in the environment this program refuses to start: Ray reads it on import.
"""

from __future__ import annotations

import os

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from peers import data_files, digits, events, flower_client
from peers.flower_environment import LOOPBACK_ONLY


def server_app(assignment: events.Assignment) -> ServerApp:
    """Make the app that runs the rounds."""
    app = ServerApp()
    test = digits.load(data_files.test_file(assignment.data))

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord | None:
        metrics = digits.evaluate(flower_client.from_record(arrays), test)
        if number > 0:
            events.print_round(number, metrics)
        return MetricRecord(dict(metrics))

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        del context
        strategy = FedAvg(
            fraction_train=1.0,
            fraction_evaluate=0.0,
            min_train_nodes=data_files.CLIENTS,
            min_available_nodes=data_files.CLIENTS,
        )
        strategy.start(
            grid=grid,
            initial_arrays=flower_client.to_record(digits.initial_model()),
            num_rounds=assignment.rounds,
            evaluate_fn=evaluate,
        )

    return app


def run_rounds(assignment: events.Assignment) -> None:
    """Run the simulation to its end. Refuses where Ray would listen to the network."""
    for name, value in LOOPBACK_ONLY.items():
        if os.environ.get(name) != value:
            raise SystemExit(f"{name}: got {os.environ.get(name)!r}, expected {value!r}")
    # Ray's actors are children of this process and read the place from their environment.
    os.environ[flower_client.DATA_VARIABLE] = str(assignment.data)
    run_simulation(
        server_app=server_app(assignment),
        client_app=flower_client.app,
        num_supernodes=data_files.CLIENTS,
        backend_config={
            "init_args": {
                "num_cpus": os.cpu_count(),
                "num_gpus": 0,
                "include_dashboard": False,
                "_temp_dir": str(assignment.scratch),
            },
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


if __name__ == "__main__":
    run_rounds(events.read_assignment("Train the digits with Flower's simulation."))
