"""store-extractor (cloud, once): take over the first model and its extractor from the user's program.

The extractor is an artifact by itself: it is all that goes down to the edges.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from components.aggregated import Aggregated
from components.command import run_command
from components.request import Place, Request
from components.split_files import EXTRACTOR, EXTRACTOR_FILE, UPDATE_FILE
from fedloom.artifacts.arrays import Array, load_arrays
from fedloom.artifacts.artifact import Artifact
from fedloom.errors import ArtifactError, JobError
from fedloom.training.split_parts import load_extractor


def run(request: Request, place: Place) -> tuple[Artifact, dict[str, Artifact]]:
    """Check and store what prepare-extractor left in the work folder; give model and states.

    Raises JobError("NoInitialModel") where something is missing, empty, not finite, or where the model
    does not hold the extractor.
    """
    paths = place.work / UPDATE_FILE, place.work / EXTRACTOR_FILE
    for path, variable in zip(paths, ("FEDLOOM_UPDATE", "FEDLOOM_EXTRACTOR"), strict=True):
        if not path.exists():
            raise _refused(f"the program ended with exit code 0 but wrote no {variable}")
    try:
        whole, _ = load_arrays(paths[0])
        extractor, _ = load_extractor(paths[1])
    except ArtifactError as error:
        raise _refused(error.message) from error
    for name, array in whole.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise _refused(f"tensor {name!r} of the first model holds NaN or Inf")
    for name, array in extractor.items():
        if name not in whole or not _same(array, whole[name]):
            raise _refused(f"tensor {name!r} of the extractor is not the one of the first model")
    model, part = (
        place.store.put_file(request.outputs[name], path, replace=True)
        for name, path in zip(("model", EXTRACTOR), paths, strict=True)
    )
    return model, {EXTRACTOR: part}


def _same(one: Array, other: Array) -> bool:
    is_alike = one.dtype == other.dtype and one.shape == other.shape
    return is_alike and one.tobytes() == other.tobytes()


def _refused(message: str) -> JobError:
    return JobError("NoInitialModel", f"prepare-extractor: {message}")


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    model, states = run(request, place)
    document = Aggregated({}, {}, model, states).to_document()
    (place.work / "aggregated.json").write_text(json.dumps(document))
    return {"model": document["model"], EXTRACTOR: document["states"][EXTRACTOR]}


if __name__ == "__main__":
    run_command("store-extractor", _run_as_command)
