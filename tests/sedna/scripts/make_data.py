"""Write the toy problem of these scripts: three clouds of points in eight dimensions.

    python make_data.py FOLDER [CLIENTS]

makes FOLDER/client-0/index.txt, client-1/..., and test/index.txt. A line of an index is `sample-0007.npy 2`:
a file beside the index, and its class.
"""

import os
import sys

import numpy as np

CLASSES, FEATURES = 3, 8


def write_clients(folder, clients=2, samples=60, test_samples=90):
    """Write the indexes and give their paths: a list for the clients, and the test's."""
    random = np.random.RandomState(5)
    centres = random.normal(size=(CLASSES, FEATURES)) * 2
    folder = str(folder)
    paths = [
        _write(os.path.join(folder, f"client-{number}"), random, centres, samples + 12 * number)
        for number in range(clients)
    ]
    return paths, _write(os.path.join(folder, "test"), random, centres, test_samples)


def _write(folder, random, centres, samples):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "index.txt")
    with open(path, "w") as index:
        for number in range(samples):
            label = int(random.randint(CLASSES))
            point = centres[label] + random.normal(size=FEATURES)
            name = f"sample-{number:04d}.npy"
            np.save(os.path.join(folder, name), point.astype(np.float32))
            index.write(f"{name} {label}\n")
    return path


if __name__ == "__main__":
    write_clients(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2)
