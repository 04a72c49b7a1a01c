"""What a job that learns from others begins with: the choice, why, and where it came from.

It stands as `transfer` in round 0's result, from where the status, MLflow and the report have it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.request import Place
from fedloom.artifacts.artifact import Artifact
from fedloom.errors import JobError

SCRATCH = "scratch"
_FILE = "beginning.json"


@dataclass
class Beginning:
    """The first model of a job that learns from others.

    Attributes:
        mode: warmStart, body or auto.
        choice: name of the source; `scratch` for none.
        kind: `full`, `body` or `scratch`.
        reason, message: why; a CamelCase word and a sentence.
        is_sure: whether the probe, where there was one, was sure of it.
        source: where it came from; None for scratch.
        frozen: names of the arrays that are not trained.
        unusable: `name`, `reason`, `message` of each source that could not be used.
        scores: of a probe, best first: `candidate`, `kind`, `loss`, `standard_error`, `samples`.
        clients: of a probe: client -> `state`, `reason`, `message`, `samples`.
        epsilon: what the probe revealed, where it is accounted for.
        traffic: bytes of the probe.
        model: the first model, once it is stored.
    """

    mode: str
    choice: str
    kind: str
    reason: str
    message: str
    is_sure: bool = True
    source: Mapping[str, Any] | None = None
    frozen: Sequence[str] = ()
    unusable: Sequence[Mapping[str, str]] = ()
    scores: Sequence[Mapping[str, Any]] = ()
    clients: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    epsilon: float | None = None
    traffic: Mapping[str, int] = field(
        default_factory=lambda: {"uplink_bytes": 0, "downlink_bytes": 0}
    )
    model: Artifact | None = None

    def to_document(self) -> dict[str, Any]:
        """Give it as plain JSON values, as it stands in the result."""
        return {name: value for name, value in vars(self).items() if name != "model"}


def from_scratch(
    settings: Mapping[str, Any], unusable: Sequence[Mapping[str, str]], model: Artifact
) -> Beginning:
    """Begin without a source where that is allowed.

    Raises JobError with the reason of the first that could not be used, where it is not.
    """
    mode = str(settings["mode"])
    told = "; ".join(f"{each['name']}: {each['message']}" for each in unusable) or "none was found"
    reason = unusable[0]["reason"] if unusable else "NoSource"
    if settings["fallback"] != SCRATCH:
        message = f"no source of spec.transfer can be used: {told}"
        raise JobError(reason, message, "spec.transfer.from")
    message = f"no source can be used, and spec.transfer.fallback is scratch: {told}"
    return Beginning(mode, SCRATCH, SCRATCH, reason, message, unusable=list(unusable), model=model)


def leave(place: Place, beginning: Beginning) -> None:
    """Leave it in the work folder for commit, in another process."""
    (place.work / _FILE).write_text(json.dumps(beginning.to_document()))


def left(work: Path) -> Mapping[str, Any] | None:
    """Give what `leave` left; None where there is nothing."""
    try:
        found: Mapping[str, Any] = json.loads((work / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    return found
