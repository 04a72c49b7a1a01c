"""Fedloom: federated learning as a job, on a cluster or on a laptop.

What a training script needs is here by name: `Client`, `Round`, `Update`, `Evaluation` and `main`.
The library knows no cluster and no engine. Names load on first use, so that `import fedloom`
costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedloom.training.context import Client, Evaluation, Round, Update
    from fedloom.training.script import main

__version__ = "0.1.0"
__all__ = ["Client", "Evaluation", "Round", "Update", "main"]

_HOMES = {
    "Client": "fedloom.training.context",
    "Evaluation": "fedloom.training.context",
    "Round": "fedloom.training.context",
    "Update": "fedloom.training.context",
    "main": "fedloom.training.script",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedloom' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
