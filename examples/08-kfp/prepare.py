"""Split scikit-learn's digits into three clients that see different digits, and a test set.

Writes data/client-1.npz ... data/client-3.npz and data/test.npz (arrays `x`: float32, (n, 64), in
[0, 1]; `y`: int64, (n,)).
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from fedloom.training.numpy import dirichlet_split

CLIENTS = 3
ALPHA = 0.5  # the smaller, the more the clients differ
TEST_EXAMPLES = 360
SEED = 7
FOLDER = Path(__file__).parent / "data"


def main() -> None:
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    x = (digits.data[order] / 16).astype(np.float32)
    y = digits.target[order].astype(np.int64)
    test, train = slice(TEST_EXAMPLES), slice(TEST_EXAMPLES, None)
    FOLDER.mkdir(exist_ok=True)
    np.savez(FOLDER / "test.npz", x=x[test], y=y[test])
    x, y = x[train], y[train]
    parts = dirichlet_split(y, CLIENTS, ALPHA, seed=SEED, min_examples=32)
    for number, indices in enumerate(parts, start=1):
        np.savez(FOLDER / f"client-{number}.npz", x=x[indices], y=y[indices])


if __name__ == "__main__":
    main()
