"""Split scikit-learn's digits into ten clients that see different digits, and a test set.

Writes data/client-0.npz ... data/client-9.npz and data/test.npz (arrays `x`: float32, (n, 64), in
[0, 1]; `y`: int64, (n,)). How much of each digit a client gets is drawn from a Dirichlet distribution:
the smaller ALPHA, the more the clients differ.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

CLIENTS = 10
ALPHA = 0.5
TEST_EXAMPLES = 360
SEED = 7
FOLDER = Path(__file__).parent / "data"


def split(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Give each client the indices of its examples; every client gets at least one batch."""
    while True:
        parts: list[list[int]] = [[] for _ in range(CLIENTS)]
        for digit in range(10):
            indices = rng.permutation(np.flatnonzero(labels == digit))
            shares = rng.dirichlet(np.full(CLIENTS, ALPHA))
            borders = (np.cumsum(shares)[:-1] * len(indices)).astype(int)
            for part, piece in zip(parts, np.split(indices, borders), strict=True):
                part.extend(piece.tolist())
        if min(map(len, parts)) >= 32:
            return [np.sort(part) for part in parts]


def main() -> None:
    digits = load_digits()
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(digits.target))
    x = (digits.data[order] / 16).astype(np.float32)
    y = digits.target[order].astype(np.int64)
    FOLDER.mkdir(exist_ok=True)
    np.savez(FOLDER / "test.npz", x=x[:TEST_EXAMPLES], y=y[:TEST_EXAMPLES])
    x, y = x[TEST_EXAMPLES:], y[TEST_EXAMPLES:]
    for number, indices in enumerate(split(y, rng)):
        np.savez(FOLDER / f"client-{number}.npz", x=x[indices], y=y[indices])


if __name__ == "__main__":
    main()
