"""The example's detector as the package `detector`, one thread of torch, known numbers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "06-mistnet-yolov5"
if str(EXAMPLE) not in sys.path:
    sys.path.insert(0, str(EXAMPLE))


@pytest.fixture(autouse=True)
def _one_thread():
    """Torch on one thread, where it is there."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def known():
    """H(n) of the known answers: n numbers in [0, 1) that look random, as float64."""

    def numbers(count: int) -> np.ndarray:
        products = np.sin(12.9898 * np.arange(count, dtype=np.float64)) * 43758.5453
        return products - np.floor(products)

    return numbers
