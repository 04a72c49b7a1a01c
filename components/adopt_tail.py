"""adopt-tail (cloud): check the model that the user's program trained, and take it over.

It is the first model with another tail: the same names, shapes and dtypes, only finite numbers, and an
extractor that nobody touched, or what edges released would not be what the tail reads.
"""

from __future__ import annotations

import json
import shutil
import time
from typing import Any

import numpy as np

from components.aggregated import Aggregated
from components.collect import COLLECTED
from components.command import run_command
from components.outcome import read_outcome
from components.request import Place, Request
from components.script import check_model
from components.split_files import EXTRACTOR_FILE, MODEL_FILE, RESULT_FILE, UPDATE_FILE
from fedloom.algorithms.layout import TensorSpec
from fedloom.artifacts.arrays import ArrayFile
from fedloom.errors import ArtifactError, JobError, UpdateError

_FAILED = "TrainingFailed"


def run(request: Request, place: Place, found: Aggregated) -> None:
    """Store the model, and note it and what the training measured. Raises JobError("TrainingFailed")."""
    path = place.work / UPDATE_FILE
    try:
        outcome = read_outcome(path, place.work / RESULT_FILE)
        with ArrayFile(place.work / MODEL_FILE) as before, ArrayFile(path) as made:
            named = before.tensors.items()
            check_model(made, {name: TensorSpec(i.shape, i.dtype) for name, i in sorted(named)})
            with ArrayFile(place.work / EXTRACTOR_FILE) as extractor:
                _check_extractor(made, extractor)
    except ArtifactError as error:
        raise JobError(_FAILED, f"train-tail: {error.message}") from error
    except UpdateError as error:
        raise JobError(_FAILED, f"train-tail: {error.reason}: {error.message}") from error
    found.model = place.store.put_file(request.outputs["model"], path, replace=True)
    found.tail = dict(outcome.metrics or {})
    shutil.copyfile(path, place.work / MODEL_FILE)


def _check_extractor(made: ArrayFile, extractor: ArrayFile) -> None:
    for name in extractor.tensors:
        if not np.array_equal(made.read(name), extractor.read(name)):
            raise UpdateError(
                "ExtractorChanged",
                f"tensor {name!r} belongs to the extractor, which is frozen: edges have used it",
            )


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Adopt what the user's container left, for those behind it and for commit."""
    document = json.loads((place.work / COLLECTED).read_bytes())
    found, steps, now = Aggregated.of(document), document["steps"], time.time()
    run(request, place, found)
    steps["train-tail"] = [steps["collect"][1], now]
    document = found.to_document() | {"steps": steps}
    (place.work / "aggregated.json").write_text(json.dumps(document))
    return {"model": document["model"]}


if __name__ == "__main__":
    run_command("adopt-tail", _run_as_command)
