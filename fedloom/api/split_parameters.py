"""What a mistnet job says in its workers' environment: Sedna's example says all of it there.

`cut_layer`, `epsilon`, `epochs`, `batch_size`, `learning_rate`, in any case. What the document says wins;
else the aggregation worker's environment, then the training workers' in order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fedloom.api import capabilities
from fedloom.api.learning import Scalar
from fedloom.api.pod import PodTemplate
from fedloom.errors import Problem

HYPERPARAMETERS = ("epochs", "batchSize", "learningRate")
CUT_LAYER = "cutLayer"

Templates = Iterable[tuple[str, PodTemplate]]
"""Of the job's workers, each with its path, in their order."""


def written_parameters(
    templates: Templates, parameters: Mapping[str, Scalar]
) -> Mapping[str, Scalar]:
    """Add what the environment says of mistnet's parameters to those that are written.

    An epsilon of the environment does not count beside `privacy: none`, which is written on purpose.
    """
    taken = [name for name in capabilities.ALGORITHMS[capabilities.MISTNET] if name != "privacy"]
    if parameters.get("privacy") == "none":
        taken.remove("epsilon")
    return {**_said(templates, [n for n in taken if n not in parameters]), **parameters}


def written_hyperparameters(
    templates: Templates, hyperparameters: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Add what the environment says of epochs, batch size and learning rate to those of the job."""
    known = {_variable(name) for name in hyperparameters}
    missing = [name for name in HYPERPARAMETERS if _variable(name) not in known]
    return {**_said(templates, missing), **hyperparameters}


def disagreements(templates: Templates, parameters: Mapping[str, Scalar]) -> Iterator[Problem]:
    """Find workers whose environment says another cut or epsilon than what counts."""
    for path, template in templates:
        for name in (CUT_LAYER, "epsilon", "epsilonConvention", "maxEpsilon"):
            found = _look_up(template, name)
            if found is None or name not in parameters or _value(found[1]) == parameters[name]:
                continue
            if name == "epsilon" and parameters.get("privacy") == "none":
                continue
            message = (
                f"got {found[1][:60]!r}, but the job has {name} {parameters[name]!r}: it is one for "
                "all its workers"
            )
            yield Problem(f"{path}.spec.containers[0].env[{found[0]}]", message)


def _said(templates: Templates, names: Iterable[str]) -> dict[str, Scalar]:
    listed = [template for _, template in templates]
    found: dict[str, Scalar] = {}
    for name in names:
        texts = (_look_up(template, name) for template in listed)
        text = next((each[1] for each in texts if each is not None), None)
        if text is not None:
            found[name] = _value(text)
    return found


def _look_up(template: PodTemplate, name: str) -> tuple[str, str] | None:
    """Give the variable of this name, in whatever case, and its text, where that is not empty."""
    wanted = _variable(name)
    for variable, text in template.environment.items():
        if variable.lower() == wanted and text.strip():
            return variable, text.strip()
    return None


def _variable(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _value(text: str) -> Scalar:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text
