"""adopt-source (cloud, once): put another job's model, or its body, in the place of the job's own first one.

It runs behind initialize, whose model says which names, shapes and dtypes are expected, gives the head of
mode body, and is what the job begins with where no source can be used and that is allowed.
"""

from __future__ import annotations

import json
from typing import Any

from components import sources
from components.aggregated import Aggregated
from components.beginning import Beginning, from_scratch, leave
from components.command import run_command
from components.outcome import Arrays
from components.request import Place, Request
from fedloom.algorithms.layout import layout_of
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.artifact import Artifact
from fedloom.errors import JobError


def run(request: Request, place: Place, scratch: Artifact) -> Beginning:
    """Store the first model and say what it is. Raises JobError where no source can be used."""
    own = load_arrays(place.store.get(scratch.key, digest=scratch.digest))[0]
    unusable = [dict(each) for each in request.settings["unusable"]]
    for number in range(len(request.settings["sources"])):
        try:
            is_body = request.settings["mode"] == "body"
            loaded = sources.load(request, place, number, layout_of(own), any_shape=is_body)
            return _adopted(request, place, loaded, own, unusable)
        except JobError as problem:
            unusable.append(sources.unusable(request.settings["sources"][number], problem))
    model = place.store.put(request.outputs["model"], dump_arrays(own), replace=True)
    return from_scratch(request.settings, unusable, model)


def _adopted(
    request: Request,
    place: Place,
    loaded: sources.Loaded,
    own: Arrays,
    unusable: list[dict[str, str]],
) -> Beginning:
    settings, frozen = request.settings, frozenset[str]()
    if settings["mode"] == "body":
        arrays, taken = sources.body_of(loaded, own, settings["head"])
        frozen = taken if settings["freeze"] else frozen
        kind, what = "body", f"{len(taken)} of {len(own)} arrays, and a new last layer"
    else:
        arrays, kind, what = sources.whole_of(loaded), "full", f"all {len(own)} arrays"
    model = place.store.put(request.outputs["model"], dump_arrays(arrays), replace=True)
    return Beginning(
        mode=settings["mode"],
        choice=loaded.name,
        kind=kind,
        reason="Adopted",
        message=f"{loaded.name}: {what}",
        source=loaded.lineage(),
        frozen=sorted(frozen),
        unusable=unusable,
        model=model,
    )


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Take what initialize left in the work folder; leave the beginning for commit."""
    path = place.work / "aggregated.json"
    found = Aggregated.of(json.loads(path.read_bytes()))
    assert found.model is not None
    beginning = run(request, place, found.model)
    leave(place, beginning)
    found.model = beginning.model
    path.write_text(json.dumps(found.to_document()))
    return {"choice": beginning.choice, "reason": beginning.reason, "message": beginning.message}


if __name__ == "__main__":
    run_command("adopt-source", _run_as_command)
