"""One seed for a run: so that a script which draws without a seed of its own repeats itself on a retry.

FEDLOOM_SEED differs per job, round and client. Python's `random` and numpy are seeded as a script imports
the library; a seed that the script sets later wins. Torch and tensorflow are seeded if they are loaded.
"""

import os
import random
import sys
from typing import Optional

import numpy as np

__all__ = ("seed_frameworks", "seed_here")

_TORCH_UNSEEDED = 67280421310721  # torch's own default


def seed_here() -> None:
    """Seed `random` and numpy, and the frameworks that are loaded already; nothing without a task."""
    seed = _seed()
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed)
        seed_frameworks()


def seed_frameworks() -> None:
    """Seed torch, unless the script has, and tensorflow, once."""
    seed = _seed()
    if seed is None:
        return
    torch = sys.modules.get("torch")
    if torch is not None and torch.initial_seed() == _TORCH_UNSEEDED:
        torch.manual_seed(seed)
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and not _Seeded.tensorflow:
        _Seeded.tensorflow = True
        tensorflow.random.set_seed(seed)


class _Seeded:
    """What has been seeded in this process."""

    tensorflow = False


def _seed() -> Optional[int]:
    text = os.environ.get("FEDLOOM_SEED", "") if os.environ.get("FEDLOOM_TASK") else ""
    return int(text) % 2**32 if text.isdigit() else None
