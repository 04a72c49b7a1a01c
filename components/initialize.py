"""initialize (cloud, once): make round 0's model from a pretrained file or by the user's code.

As a command it runs behind the user's container, and takes what that left in the work folder; a pretrained
model it fetches itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from components import user_code
from components.command import run_command
from components.outcome import Arrays, read_outcome
from components.request import Place, Request
from fedloom.api.places import DATA, is_path, path_of
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.artifact import Artifact
from fedloom.artifacts.opening import open_store
from fedloom.errors import ArtifactError, JobError, UpdateError


def run(request: Request, place: Place, code: user_code.UserCode) -> Artifact:
    """Write the first global model.

    Raises JobError("NoInitialModel") where it cannot be made, is empty or holds NaN/Inf.
    """
    if request.settings.get(
        "empty"
    ):  # clients that bring their own: the round's first mean is the first
        return place.store.put(request.outputs["model"], dump_arrays({}), replace=True)
    pretrained = request.settings.get("pretrained")
    arrays = _pretrained(fetched(request, place)) if pretrained else _made(request, place, code)
    return _stored(request, place, arrays)


def _stored(request: Request, place: Place, arrays: Arrays) -> Artifact:
    if not arrays:
        raise JobError("NoInitialModel", "initialize gave no arrays")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise JobError("NoInitialModel", f"tensor {name!r} of the first model holds NaN or Inf")
    return place.store.put(request.outputs["model"], dump_arrays(arrays), replace=True)


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
    return outcome.arrays or {}


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Store the first model and leave its name for commit, as aggregate does."""
    from components.aggregate import Aggregated

    pretrained = request.settings.get("pretrained")
    if pretrained:
        arrays = _pretrained(fetched(request, place))
    else:
        try:
            arrays = read_outcome(place.work / "update.safetensors", None).arrays or {}
        except UpdateError as error:
            raise JobError("NoInitialModel", f"initialize: {error.message}") from error
    model = _stored(request, place, arrays)
    found = Aggregated({}, {}, model)
    (place.work / "aggregated.json").write_text(json.dumps(found.to_document()))
    return {"model": {"key": model.key, "digest": model.digest}}


def fetched(request: Request, place: Place) -> Path:
    """Give a local file of a pretrained model: downloaded, or a path where this step runs."""
    url = str(request.settings["pretrained"])
    if url in request.settings.get("downloads", ()):
        from components.download import Downloads  # an HTTP client costs start-up time

        signed = request.settings.get("signed", {}).get(url)
        return Downloads(place.work / "pretrained").fetch(url, signed).path
    if url.startswith("s3://"):
        folder, _, name = url.rpartition("/")
        return open_store(folder).materialize(name, place.work / "pretrained")
    if is_path(url):
        mounted = Path(DATA + path_of(url))  # a pod has the folders of its node there
        return mounted if mounted.exists() else Path(url)
    return place.base / url.removeprefix("file://")


if __name__ == "__main__":
    run_command("initialize", _run_as_command)
