"""stage (cloud, once): make the sources of a job ready for a probe on its clients' data.

Behind initialize: every source is fetched and checked against the job's own model. Those that fit, five at
most, are stored twice in the job's own store: exact, under their content's digest, so that the job can begin
with one whatever becomes of the source meanwhile; and encoded, as they go down to the clients.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from components import candidates, sources
from components.aggregated import Aggregated
from components.beginning import SCRATCH, from_scratch
from components.candidates import Candidate, Roster
from components.command import run_command
from components.outcome import Arrays
from components.request import Place, Request
from fedloom.algorithms.layout import layout_of
from fedloom.algorithms.transfer.decision import SCRATCH_BODY
from fedloom.algorithms.transfer.head import head_of
from fedloom.api.transfer import MOST_CANDIDATES
from fedloom.artifacts import layout
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.artifact import Artifact
from fedloom.errors import JobError

_MORE = "it was not looked at: five better ones fit already"


@dataclass
class _Found:
    """The sources that fit: what of each goes down, how it fits, where it was put; and the others."""

    models: dict[str, Arrays] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    staged: dict[str, Any] = field(default_factory=dict)
    unusable: list[dict[str, str]] = field(default_factory=list)


def run(request: Request, place: Place, scratch: Artifact) -> dict[str, Any]:
    """Store the roster for the clients, and for `choose` what they are not told; give the latter.

    Raises JobError where no source can be used and the job may not begin without one.
    """
    own = load_arrays(place.store.get(scratch.key, digest=scratch.digest))[0]
    found = _fitting(request, place, own)
    roster = _roster(request, place, own, found)
    place.store.put(request.outputs["roster"], roster.to_bytes(), replace=True)
    document = {
        "scratch": {"key": scratch.key, "digest": scratch.digest},
        "sources": found.staged,
        "unusable": found.unusable,
    }
    data = json.dumps(document, sort_keys=True).encode()
    place.store.put(request.outputs["staged"], data, replace=True)
    if not found.models and request.settings["fallback"] != SCRATCH:
        from_scratch(request.settings, found.unusable, scratch)
    return document


def _fitting(request: Request, place: Place, own: Arrays) -> _Found:
    """Look at the sources in their order."""
    found = _Found(unusable=[dict(each) for each in request.settings["unusable"]])
    for number, source in enumerate(request.settings["sources"]):
        if len(found.models) == MOST_CANDIDATES:
            found.unusable.append(sources.unusable(source, JobError("TooManySources", _MORE)))
            continue
        try:
            _look_at(request, place, number, own, found)
        except JobError as problem:
            found.unusable.append(sources.unusable(source, problem))
    return found


def _look_at(request: Request, place: Place, number: int, own: Arrays, found: _Found) -> None:
    """Fetch and check one; where heads are probed, too, its body may be enough. Raises JobError."""
    has_heads = "heads" in request.settings
    loaded = sources.load(request, place, number, layout_of(own), any_shape=has_heads)
    kind, taken = "full", frozenset[str]()
    if loaded.fit.is_full or not has_heads:
        arrays = sources.whole_of(loaded)
    else:
        kind = "body"
        arrays, taken = sources.body_of(loaded, own, request.settings["head"])
    key = layout.state_key(f"candidate-{loaded.digest[7:23]}", 0)
    exact = place.store.put(key, dump_arrays(arrays), replace=True)
    found.staged[loaded.name] = {
        "key": exact.key,
        "digest": exact.digest,
        "lineage": loaded.lineage(),
        "taken": sorted(taken),
    }
    found.models[loaded.name], found.kinds[loaded.name] = arrays, kind


def _roster(request: Request, place: Place, own: Arrays, found: _Found) -> Roster:
    shape = layout_of(own)
    start = Candidate(0, SCRATCH, SCRATCH)
    if not found.models:
        return Roster((start,), 0, (), shape)
    head: frozenset[str] = frozenset()
    models, kinds = found.models, {SCRATCH: SCRATCH, **found.kinds}
    try:
        head = head_of(shape, request.settings["head"])
    except JobError:  # no last layer is known: clients are told what the job begins with by itself
        models = {SCRATCH: own, **models}
    if head and "heads" in request.settings:
        models, kinds[SCRATCH_BODY] = {**models, SCRATCH_BODY: own}, "own"
    keys = [request.outputs[f"slot-{slot}"] for slot in range(len(models) + 1)]
    seed = request.settings["seed"]
    written, base = candidates.write_candidates(models, kinds, keys, place, seed)
    if SCRATCH not in written:
        written = {SCRATCH: start, **written}
    return Roster(tuple(written.values()), base, tuple(sorted(head)), shape)


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Take what initialize left in the work folder."""
    found = Aggregated.of(json.loads((place.work / "aggregated.json").read_bytes()))
    assert found.model is not None
    document = run(request, place, found.model)
    return {"sources": sorted(document["sources"]), "unusable": document["unusable"]}


if __name__ == "__main__":
    run_command("stage", _run_as_command)
