"""The plain loop: federated averaging in one process with nothing around it.

No framework can be faster than this on one core; what a framework costs is its distance from here.
"""

from __future__ import annotations

import numpy as np

from peers import data_files, digits, events


def run_rounds(assignment: events.Assignment) -> None:
    """Train round by round and print each."""
    clients = [
        digits.load(data_files.client_file(assignment.data, k)) for k in range(data_files.CLIENTS)
    ]
    test = digits.load(data_files.test_file(assignment.data))
    total = sum(len(images.y) for images in clients)
    model = digits.initial_model()
    for number in range(1, assignment.rounds + 1):
        mean = {name: np.zeros_like(array) for name, array in model.items()}
        for client, images in enumerate(clients):
            trained = digits.train(model, images, number, client)
            weight = np.float32(len(images.y) / total)
            for name, array in trained.items():
                mean[name] += weight * (array - model[name])
        model = {name: array + mean[name] for name, array in model.items()}
        events.print_round(number, digits.evaluate(model, test))


if __name__ == "__main__":
    run_rounds(events.read_assignment("Train the digits with a plain numpy loop."))
