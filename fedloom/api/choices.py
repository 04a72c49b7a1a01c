"""Choices by name with parameters (an algorithm, a codec) against what this version implements."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

from fedloom.api.declaration import Catalogue, Parameter, one_of
from fedloom.api.learning import Scalar
from fedloom.api.wording import at, meant_by, shown, unknown_name, wrong_type
from fedloom.errors import Problem


def choice_problems(
    choice: tuple[str, str],
    parameters: tuple[str, Mapping[str, Scalar]],
    catalogue: Catalogue,
    planned: Collection[str],
    beside: tuple[str, ...] = (),
) -> Iterator[Problem]:
    """Check a name and its parameters, each given with its path.

    `beside` are the fields that stand beside the parameters: one of them may have been meant. Where
    the name is refused, nothing is said about its parameters.
    """
    path, name = choice
    if name not in catalogue:
        yield Problem(path, _refusal(name, catalogue, planned))
        return
    place, written = parameters
    taken = catalogue[name]
    for key, value in written.items():
        if key not in taken:
            message = unknown_name(f"parameter of {name}", key, (*taken, *beside))
            yield Problem(at(place, key), message)
            continue
        message = _value_refusal(value, taken[key])
        if message:
            yield Problem(at(place, key), message)


def _refusal(name: str, catalogue: Catalogue, planned: Collection[str]) -> str:
    if name in planned:
        return f"got {name!r}: known, but not part of this version, expected {one_of(catalogue)}"
    meant = meant_by(name, (*catalogue, *sorted(planned)))
    hint = f", did you mean {meant!r}?" if meant else ""
    return f"got {shown(name)}, expected {one_of(catalogue)}{hint}"


def _value_refusal(value: Scalar, parameter: Parameter) -> str:
    kind = parameter.kind
    fits = isinstance(value, int | float if kind is float else kind)
    if not fits or isinstance(value, bool):
        return wrong_type(value, (kind,))
    if isinstance(value, float) and not math.isfinite(value):
        return f"got {shown(value)}, expected a finite number"
    violated = parameter.bounds.violation(value)
    return f"got {shown(value)}, expected {violated}" if violated else ""
