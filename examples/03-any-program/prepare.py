"""Split scikit-learn's digits into four clients that see different digits, and a test set, as CSV.

Writes data/client-0.csv ... data/client-3.csv and data/test.csv: a line per image, its digit first,
then its 64 pixels from 0 to 16.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from fedloom.training.numpy import dirichlet_split

CLIENTS = 4
ALPHA = 1.0  # the smaller, the more the clients differ
TEST_EXAMPLES = 360
SEED = 7
FOLDER = Path(__file__).parent / "data"


def main() -> None:
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    table = np.column_stack([digits.target, digits.data])[order].astype(int)
    test, train = table[:TEST_EXAMPLES], table[TEST_EXAMPLES:]
    FOLDER.mkdir(exist_ok=True)
    np.savetxt(FOLDER / "test.csv", test, fmt="%d", delimiter=",")
    for number, indices in enumerate(dirichlet_split(train[:, 0], CLIENTS, ALPHA, seed=SEED)):
        np.savetxt(FOLDER / f"client-{number}.csv", train[indices], fmt="%d", delimiter=",")


if __name__ == "__main__":
    main()
