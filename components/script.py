"""script (cloud): let the aggregation worker's own program combine the updates, and check what it made.

`unpack` lays the clients' weights out, the program writes the next model, `adopt` takes it over: as it is,
if it has names, shapes and dtypes of the model and nothing but finite numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components import unpack, user_code
from components.aggregated import Aggregated
from components.next_model import NextModel, layouts_of, open_model
from components.request import Place, Request
from components.update_file import Array
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Layout, TensorSpec, check_finite, check_layout
from fedloom.algorithms.optimizers.registry import server_optimizer
from fedloom.artifacts.arrays import ArrayFile
from fedloom.errors import ArtifactError, JobError, UpdateError

Requests = Mapping[str, Request]
_FAILED = "AggregationFailed"


def run(
    requests: Requests,
    place: Place,
    code: user_code.UserCode,
    failures: Mapping[str, Mapping[str, str]],
    *,
    is_durable: bool,
) -> Aggregated:
    """Do the three steps of one group, on one machine. Raises JobError("AggregationFailed")."""
    found = unpack.run(requests["unpack"], place, failures)
    if len(found.reports) < requests["unpack"].settings["min_clients"]:
        return found
    combining = requests["script"]
    state = user_code.fresh_folder(place.work)
    try:
        environment = code.run(combining, place, state, user_code.Given(_model_of(requests)))
    except UpdateError as error:
        raise JobError(_FAILED, f"{error.reason}: {error.message}") from error
    finally:
        user_code.clear(unpack.folder_of(place.work))
        user_code.clear(state)
    assert environment.update is not None
    assert environment.result is not None
    adopt(requests["aggregate"], place, found, environment.update, is_durable=is_durable)
    found.metrics = _metrics_of(environment.result)
    return found


def _model_of(requests: Requests) -> Mapping[str, Any]:
    return requests["aggregate"].inputs["model"]


def adopt(
    request: Request, place: Place, found: Aggregated, path: Path, *, is_durable: bool
) -> None:
    """Store what the program made as the next model. Raises JobError("AggregationFailed")."""
    if not path.exists():
        message = (
            "the aggregation worker's program ended with exit code 0 but wrote no FEDLOOM_UPDATE: "
            "a Sedna script ends with AggregationServer(...).start()"
        )
        raise JobError(_FAILED, message)
    settings = request.settings
    try:
        with open_model(request, place) as base, ArrayFile(path) as made:
            layout, _ = layouts_of(request, base)
            check_model(made, layout)
            optimizer = server_optimizer(settings["algorithm"], settings["parameters"])
            with NextModel(request, place, layout, optimizer) as writer:
                writer.copy(made, None, dict.fromkeys(layout, 0))
                found.model, found.states = writer.store(is_durable=is_durable)
    except ArtifactError as error:
        raise JobError(_FAILED, f"FEDLOOM_UPDATE: {error.message}") from error
    except UpdateError as error:
        raise JobError(_FAILED, f"FEDLOOM_UPDATE: {error.reason}: {error.message}") from error


def adopt_as_command(request: Request, place: Place) -> tuple[Aggregated, dict[str, Any]]:
    """Adopt what the containers before this one left in the work folder; give also their times."""
    document = json.loads((place.work / unpack.UNPACKED).read_bytes())
    found, steps = Aggregated.of(document), document["steps"]
    adopt(request, place, found, place.work / "update.safetensors", is_durable=True)
    found.metrics = _metrics_of(place.work / "result.json")
    return found, steps


def check_model(made: ArrayFile, layout: Layout) -> None:
    """Compare what the program made with the model. Raises UpdateError."""
    found = {name: TensorSpec(info.shape, info.dtype) for name, info in made.tensors.items()}
    check_layout(layout, found)
    for name, spec in layout.items():
        values: Array = np.empty(min(spec.size, BLOCK_ELEMENTS), spec.dtype)
        for start in range(0, spec.size, BLOCK_ELEMENTS):
            block = values[: spec.size - start]
            made.read_into(name, start, block)
            check_finite(name, [block])


def _metrics_of(path: Path) -> dict[str, float]:
    """Read the metrics that the program gave, where it gave any; those that are no number are left out."""
    try:
        metrics = json.loads(path.read_bytes())["metrics"]
        return {
            str(name): float(value)
            for name, value in metrics.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
