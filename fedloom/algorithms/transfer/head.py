"""Which arrays are a model's head: its last layer, that knows the labels.

Arrays come without an order but that of their names, so names are all there is to go by. They are
read as people write them (`fc2.weight`, `layers.10.bias`, `classifier.weight`, `w2` and `b2`);
where that does not tell, the user has to.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import takewhile

from fedloom.algorithms.layout import Layout, names_like
from fedloom.algorithms.transfer.matching import match
from fedloom.errors import JobError

_HEADS = ("head", "heads", "lm_head", "classifier", "logits", "output", "out", "predictions")
_LAST_OF_ITS_KIND = ("fc", "linear", "dense")
_PARAMETERS = ("weight", "bias", "kernel", "gamma", "beta", "scale", "w", "b")
_NUMBERED_PARAMETER = re.compile(rf"(?:{'|'.join(_PARAMETERS)})_?(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


def head_of(
    own: Layout, patterns: Sequence[str] = (), source: Layout | None = None
) -> frozenset[str]:
    """Give the names of the head's arrays.

    The first of these that tells:
    1. `patterns`, if there are any: whatever they describe, * and ? as in `names_like`;
    2. a layer that is called a head (classifier, output, logits ...);
    3. among layers that differ by number alone, the last; 10 comes after 9;
    4. the last of the layers called fc, linear or dense;
    5. the layers whose shapes are not those of `source`, where one is given.

    A layer is what stands before the first dot behind what all names have in common: `24` of
    `model.24.m.0.weight`, `output` of `output.bias`; `w2` and `b2` are layer 2.

    Raises:
        JobError: `NoHead`, where nothing tells, or nothing would be left beside the head.
    """
    if patterns:
        return _checked(names_like(own, patterns), own, f"patterns {list(patterns)}")
    layers = _layers(own)
    for last in (_called(layers, _HEADS), _numbered(layers), _called(layers, _LAST_OF_ITS_KIND)):
        if last is not None:
            return _checked(frozenset(layers[last]), own, f"layer {last!r}")
    reshaped = match(own, source).reshaped if source is not None else ()
    if reshaped:
        others = {name for names in layers.values() for name in names if set(names) & {*reshaped}}
        return _checked(frozenset(others), own, "the layers of other shapes")
    raise JobError("NoHead", f"the names do not tell which layer is the head: got {_some(layers)}")


def _checked(head: frozenset[str], own: Layout, found_by: str) -> frozenset[str]:
    if head and len(head) < len(own):
        return head
    got = "all arrays" if head else "none"
    raise JobError(
        "NoHead", f"{found_by}: got {got} of the model's {len(own)}, expected some of {_some(own)}"
    )


def _layers(own: Iterable[str]) -> dict[str, list[str]]:
    """Give the arrays of each layer, by the layer's name."""
    paths = {name: _path(name) for name in sorted(own)}
    same = takewhile(lambda parts: len({*parts}) == 1, zip(*paths.values(), strict=False))
    common = sum(1 for _ in same)
    layers: dict[str, list[str]] = {}
    for name, path in paths.items():
        # An array that lies right beside modules, such as a token, is a layer of its own.
        layers.setdefault(path[common] if len(path) > common else name, []).append(name)
    return layers


def _path(name: str) -> list[str]:
    """Give the modules that an array lies in, outermost first."""
    *modules, last = re.split(r"[./]", name)
    if modules:
        return modules
    numbered = _NUMBERED_PARAMETER.fullmatch(last)
    if numbered:
        return [numbered[1]]
    stem, _, parameter = last.rpartition("_")
    return [stem] if stem and parameter.lower() in _PARAMETERS else [last]


def _called(layers: Mapping[str, Collection[str]], words: Collection[str]) -> str | None:
    """Give the last layer of such a name, with or without a number."""
    found = [layer for layer in layers if re.sub(r"_?\d+$", "", layer).lower() in words]
    return max(found, key=_natural) if found else None


def _numbered(layers: Collection[str]) -> str | None:
    """Give the last layer, if all names are one text with other numbers."""
    texts = {_NUMBER.sub("#", layer) for layer in layers}
    if len(texts) == 1 and "#" in next(iter(texts)):
        return max(layers, key=_natural)
    return None


def _natural(layer: str) -> list[int]:
    return [int(digits) for digits in _NUMBER.findall(layer)]


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (", ..." if len(ordered) > 5 else "")
