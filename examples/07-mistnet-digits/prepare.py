"""Write scikit-learn's digits as image files: four edges with different ones, and a test set.

Writes data/edge-0 ... data/edge-3 and data/test: `<number>-<digit>.pgm`, grey, 8 x 8 pixels.
"""

import shutil
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from fedloom.training.numpy import dirichlet_split

EDGES = 4
ALPHA = 1.0  # the smaller, the more the edges differ
TEST_EXAMPLES = 360
SEED = 7
FOLDER = Path(__file__).parent / "data"


def main() -> None:
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    images = np.rint(digits.images[order] * (255 / 16)).astype(np.uint8)
    labels = digits.target[order].astype(np.int64)
    shutil.rmtree(FOLDER, ignore_errors=True)
    write(FOLDER / "test", images, labels, np.arange(TEST_EXAMPLES))
    rest = np.arange(TEST_EXAMPLES, len(labels))
    parts = dirichlet_split(labels[rest], EDGES, ALPHA, seed=SEED, min_examples=64)
    for number, indices in enumerate(parts):
        write(FOLDER / f"edge-{number}", images, labels, rest[indices])


def write(folder: Path, images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for index in indices:
        path = folder / f"{index:04}-{labels[index]}.pgm"
        path.write_bytes(b"P5 8 8 255\n" + images[index].tobytes())


if __name__ == "__main__":
    main()
