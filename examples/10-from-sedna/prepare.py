"""Split scikit-learn's digits into two workers that see different digits, as Sedna's txt datasets.

Writes data/1/train.txt and data/2/train.txt: a line per image, its 64 pixels from 0 to 16 and its digit.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from fedloom.training.numpy import dirichlet_split

WORKERS = 2
ALPHA = 1.0  # the smaller, the more the workers differ
SEED = 7
FOLDER = Path(__file__).parent / "data"


def main() -> None:
    digits = load_digits()
    table = np.column_stack([digits.data, digits.target]).astype(int)
    for number, indices in enumerate(dirichlet_split(table[:, -1], WORKERS, ALPHA, seed=SEED), 1):
        folder = FOLDER / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / "train.txt", table[indices], fmt="%d")


if __name__ == "__main__":
    main()
