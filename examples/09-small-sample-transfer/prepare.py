"""Make the data of three jobs out of scikit-learn's digits; no image is used twice.

- `clean-1` ... `clean-3`: 900 digits as they are, split so that each client sees its own mixture;
- `shifted-1` ... `shifted-3`: the same images, every label three too high (7 stands for a 4);
- `worn-1` ... `worn-5`: two of each digit for all five together, pale and noisy, as from a worn scanner.

Writes data/<name>.npz and data/<job>-test.npz (arrays `x`: float32, (n, 64), about [0, 1]; `y`: int64, (n,)).
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from fedloom.training.numpy import dirichlet_split

CLIENTS, FEW = 3, 5
ALPHA = 0.5  # the smaller, the more the clients differ
CLEAN, TEST, PER_CLASS = 900, 360, 2
CONTRAST, BRIGHTNESS, NOISE = 0.5, 0.25, 0.2
SEED = 7
FOLDER = Path(__file__).parent / "data"


def main() -> None:
    digits, rng = load_digits(), np.random.default_rng(SEED)
    order = rng.permutation(len(digits.target))
    x = (digits.data[order] / 16).astype(np.float32)
    y = digits.target[order].astype(np.int64)
    FOLDER.mkdir(exist_ok=True)
    clean, test, rest = slice(CLEAN), slice(CLEAN, CLEAN + TEST), slice(CLEAN + TEST, None)

    for name, shift in (("clean", 0), ("shifted", 3)):
        labels = (y + shift) % 10
        parts = dirichlet_split(labels[clean], CLIENTS, ALPHA, seed=SEED, min_examples=32)
        for number, indices in enumerate(parts, start=1):
            save(f"{name}-{number}", x[indices], labels[indices])
        save(f"{name}-test", x[rest], labels[rest])

    worn = CONTRAST * x + BRIGHTNESS + rng.normal(0, NOISE, x.shape)
    worn = worn.astype(np.float32)
    save("worn-test", worn[test], y[test])
    worn, y = worn[rest], y[rest]
    few = np.concatenate([np.flatnonzero(y == digit)[:PER_CLASS] for digit in range(10)])
    parts = dirichlet_split(y[few], FEW, ALPHA, seed=SEED, min_examples=2)
    for number, indices in enumerate(parts, start=1):
        save(f"worn-{number}", worn[few[indices]], y[few[indices]])


def save(name: str, x: np.ndarray, y: np.ndarray) -> None:
    np.savez(FOLDER / f"{name}.npz", x=x, y=y)


if __name__ == "__main__":
    main()
