"""A round's drift correction on its way to a script: watched in a process, or as a file to a program.

The file that FEDLOOM_CORRECTION names is safetensors: `anchor/<name>` and `offset/<name>` for the
float tensors of the model (float32; float64 for float64 tensors), each only where the job's
correction has that part, and the metadata `mu`, a number as text. A program adds to every gradient

    offset/<name> + mu * (weights - anchor/<name>)

and says `"corrected": true` in FEDLOOM_RESULT; `fedloom.main` does both for a Python class. Tensors
that have neither part are the client's own, whose gradients stay as they are; the metadata
`untouched` lists them. Gradients of what the metadata `frozen` lists become zeros.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from fedloom.algorithms.drift.correction import DriftCorrection
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.errors import ArtifactError, JobError

if TYPE_CHECKING:
    from fedloom.training.context import Arrays

_ANCHOR, _OFFSET = "anchor/", "offset/"


class WatchedCorrection:
    """A drift correction that knows whether the script ever applied it."""

    def __init__(self, correction: DriftCorrection) -> None:
        self._correction = correction
        self.was_used = False

    def __call__(self, gradients: Arrays, model: Arrays) -> Arrays:
        self.was_used = True
        return self._correction(gradients, model)


def write_correction(path: Path, correction: DriftCorrection) -> None:
    """Write the file of a correction; the parts of it that change nothing are left out."""
    tensors = {_OFFSET + name: array for name, array in correction.offset.items()}
    if correction.mu:
        tensors |= {_ANCHOR + name: array for name, array in correction.anchor.items()}
    metadata = {"mu": repr(correction.mu), "untouched": json.dumps(sorted(correction.untouched))}
    if correction.frozen:
        metadata["frozen"] = json.dumps(sorted(correction.frozen))
    path.write_bytes(dump_arrays(tensors, metadata))


def read_correction(path: Path) -> DriftCorrection:
    """Read the file back.

    Raises JobError("BadEnvironment") where it is missing or no such file.
    """
    try:
        tensors, metadata = load_arrays(path)
        mu, untouched = float(metadata["mu"]), frozenset(json.loads(metadata["untouched"]))
        frozen = frozenset(json.loads(metadata.get("frozen", "[]")))
        if not (math.isfinite(mu) and mu >= 0):
            raise ValueError(f"mu is {mu}")
    except (ArtifactError, OSError, KeyError, TypeError, ValueError) as error:
        raise JobError(
            "BadEnvironment",
            f"FEDLOOM_CORRECTION: got {error}, expected {path.name} as Fedloom left it",
        ) from error
    return DriftCorrection(
        mu=mu,
        anchor=_part(_ANCHOR, tensors),
        offset=_part(_OFFSET, tensors),
        untouched=untouched,
        frozen=frozen,
    )


def _part(prefix: str, tensors: Arrays) -> Arrays:
    length = len(prefix)
    return {name[length:]: array for name, array in tensors.items() if name.startswith(prefix)}
