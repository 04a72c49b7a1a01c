"""SCAFFOLD's control variates: kept on every client's node, sent as changes, added up by the server.

A client's own variate lies in what Fedloom keeps on its node and is committed with the update that
tells of its change. The change travels in the update file as tensors `control/<name>`, through the
same codec; the client keeps what the server made of it, so that both always agree on the mean. The
common variate is a state of the server, an artifact of each round, and goes down with the model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.ballot import Ballot
from components.outcome import Arrays
from components.request import Place, Request
from components.update_file import Memory
from components.updates import who_is_not_finite
from fedloom.algorithms.aggregation.mean import Mean
from fedloom.algorithms.drift.control_variates import (
    advanced_variate,
    control_layout,
    first_variates,
    refreshed_variates,
    shares_of,
)
from fedloom.algorithms.layout import Array, Layout, check_layout, check_update, layout_of
from fedloom.artifacts.arrays import ArrayFile, ArrayFileWriter
from fedloom.artifacts.artifact import Artifact
from fedloom.errors import UpdateError

NAME = "control-variate"
_PREFIX = "control/"
_WEIGHTS = "fedloom.weights"


def layout_with_changes(layout: Layout) -> Layout:
    """Give the layout of an update that also tells of the change of its client's variate."""
    whole = {**layout, **_changes_layout(layout)}
    return {name: whole[name] for name in sorted(whole)}


@dataclass(frozen=True)
class Variates:
    """The variates of one client's round: its own, and the common one that it was given."""

    own: Arrays
    common: Arrays

    def changes(
        self, after: Mapping[str, Array], before: Mapping[str, Array], way: float
    ) -> Arrays:
        """Give the change of the own variate by a training from `before`, as `control/<name>`.

        Raises UpdateError("NotFinite") where it overflows.
        """
        fresh = refreshed_variates(self.own, self.common, before, after, way)
        changes = {_PREFIX + name: fresh[name] - own for name, own in self.own.items()}
        check_update(layout_of(changes), changes)
        return changes


def path_length(num_steps: int | None, learning_rate: object) -> float:
    """Give K * learning rate. Raises UpdateError("NoSteps" | "BadLearningRate")."""
    if not num_steps:
        raise UpdateError(
            "NoSteps",
            f"num_steps: got {num_steps}, expected the number of optimisation steps, by which "
            "scaffold divides: fedloom.Update(..., num_steps=...) or num_steps in FEDLOOM_RESULT",
        )
    if isinstance(learning_rate, (int, float)) and not isinstance(learning_rate, bool):
        way = num_steps * float(learning_rate)
        if 0 < way < math.inf:
            return way
    raise UpdateError(
        "BadLearningRate",
        f"learningRate: got {learning_rate!r}, expected the number above 0 that the script uses",
    )


def variates_of(own: Arrays, common: Arrays | None, layout: Layout) -> Variates:
    """Give a client's variates at the start of a round; `own` and `common` are zeros where not given.

    `layout` is of what the client shares. Raises UpdateError where `own` does not fit it.
    """
    first = first_variates(layout)
    _changes_layout(layout)  # refuses names that would clash
    if own:
        check_layout(layout_of(first), layout_of(own))
    return Variates(own or first, first if common is None else common)


class ControlMemory:
    """The changes of a client's variate on their way through the codec, and what arrives of them.

    What the codec of an update asks (`update_file.Memory`) about other tensors goes on to who is `beside`.
    """

    def __init__(self, variates: Variates, changes: Arrays) -> None:
        self.changes = changes
        self._variates = variates
        self._others: Memory | None = None
        self._received: Arrays = {}

    def beside(self, others: Memory) -> ControlMemory:
        """Give the same memory, which now asks `others` about all that is no control variate."""
        self._others = others
        return self

    def outgoing(self, name: str, delta: Array) -> Array:
        if name in self.changes or self._others is None:
            return delta
        return self._others.outgoing(name, delta)

    def keep(self, name: str, outgoing: Array, decoded: Array) -> None:
        if name in self.changes:
            self._received[name] = decoded
        elif self._others is not None:
            self._others.keep(name, outgoing, decoded)

    def own(self) -> Arrays:
        """Give the client's variate as the server knows it: with the changes that arrived there."""
        received = {**self.changes, **self._received}
        return {name: own + received[_PREFIX + name] for name, own in self._variates.own.items()}


def advance(request: Request, place: Place, layout: Layout, ballot: Ballot) -> Artifact:
    """Take the changes of the ballot's clients into the common variate, and store it.

    `layout` is of what the clients share. Raises BadClients.
    """
    before = request.inputs.get(NAME)
    path = place.work / f"next-{NAME}.safetensors"
    with ExitStack() as stack:
        stack.callback(path.unlink, missing_ok=True)
        old = None if before is None else stack.enter_context(ArrayFile(_fetched(place, before)))
        known = {} if old is None else json.loads(old.metadata[_WEIGHTS])
        accepted = dict(zip(ballot.clients, ballot.weights.tolist(), strict=True))
        after, kept, share = shares_of(known, accepted, request.settings["control"]["clients"])
        shapes = {name: (spec.dtype, spec.shape) for name, spec in control_layout(layout).items()}
        metadata = {_WEIGHTS: json.dumps(after, sort_keys=True)}
        writer = stack.enter_context(ArrayFileWriter(path, shapes, metadata))
        mean = Mean(ballot.positions)
        for block in mean.aggregate(ballot.sources, ballot.weights, _changes_layout(layout)):
            name = block.name.removeprefix(_PREFIX)
            common = np.zeros_like(block.values)
            if old is not None:
                old.read_into(name, block.start, common)
            values = advanced_variate(common, block.values, kept, share)
            if not np.isfinite(values).all():
                raise who_is_not_finite(ballot.clients, ballot.sources, block)
            writer.write(name, block.start, values)
        writer.close()
        return place.store.put_file(request.outputs[NAME], path, replace=True)


def _changes_layout(layout: Layout) -> Layout:
    changes = {_PREFIX + name: spec for name, spec in control_layout(layout).items()}
    if clash := changes.keys() & layout.keys():
        raise UpdateError(
            "UnexpectedTensor", f"got a tensor named {min(clash)!r}, a name that scaffold needs"
        )
    return changes


def _fetched(place: Place, artifact: Mapping[str, Any]) -> Path:
    return place.store.materialize(
        artifact["key"], place.work / "states", digest=artifact["digest"]
    )
