"""initialize (cloud, once): make round 0's model from a pretrained file or by the user's code."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from components import user_code
from components.outcome import Arrays
from components.request import Place, Request
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.artifact import Artifact
from fedloom.errors import ArtifactError, JobError, UpdateError


def run(request: Request, place: Place, code: user_code.UserCode) -> Artifact:
    """Write the first global model.

    Raises JobError("NoInitialModel") where it cannot be made, is empty or holds NaN/Inf.
    """
    pretrained = request.settings.get("pretrained")
    arrays = _pretrained(place.base / pretrained) if pretrained else _made(request, place, code)
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise JobError("NoInitialModel", f"tensor {name!r} of the first model holds NaN or Inf")
    return place.store.put(request.outputs["model"], dump_arrays(arrays))


def _pretrained(path: Path) -> Arrays:
    try:
        return load_arrays(path)[0]
    except (ArtifactError, OSError) as error:
        raise JobError("NoInitialModel", f"the pretrained model {path.name}: {error}") from error


def _made(request: Request, place: Place, code: user_code.UserCode) -> Arrays:
    state = user_code.fresh_folder(place.work)
    try:
        outcome = code.perform(request, place, state, None)
    except UpdateError as error:
        raise JobError("NoInitialModel", f"initialize: {error.message}") from error
    if not outcome.arrays:
        raise JobError("NoInitialModel", "initialize gave no arrays")
    return outcome.arrays
