"""Which arrays of a source fit a model: by name, shape and dtype, and by nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from fedloom.algorithms.layout import Layout

_NAMED_OF_A_KIND = 5


@dataclass(frozen=True)
class Match:
    """How a source's arrays compare with a model's own; names are sorted.

    Attributes:
        matched: same name, shape and dtype.
        missing: the model has it, the source has not.
        unexpected: the source has it, the model has not.
        reshaped: another shape.
        retyped: same shape, another dtype.
        differences: what was got and what was expected, of each of `reshaped` and `retyped`.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    retyped: tuple[str, ...]
    differences: tuple[str, ...] = ()

    @property
    def is_full(self) -> bool:
        """Whether the source's arrays can take the place of all of the model's."""
        return not (self.missing or self.unexpected or self.reshaped or self.retyped)

    def problems(self) -> str:
        """Give one line that names what does not fit; empty where everything does."""
        parts = list(_some(self.differences))
        parts += [f"{name}: got none" for name in _some(self.missing)]
        parts += [f"{name}: expected no such array" for name in _some(self.unexpected)]
        known = len(self.differences) + len(self.missing) + len(self.unexpected)
        if len(parts) < known:
            parts.append(f"and {known - len(parts)} more")
        return "; ".join(parts)


def match(own: Layout, source: Layout) -> Match:
    """Compare the arrays of `source` with those of the model that they are meant for."""
    common = sorted(own.keys() & source.keys())
    reshaped = [name for name in common if own[name].shape != source[name].shape]
    retyped = [
        name
        for name in common
        if own[name].shape == source[name].shape and own[name].dtype != source[name].dtype
    ]
    shapes = [
        f"{name}: got shape {list(source[name].shape)}, expected {list(own[name].shape)}"
        for name in reshaped
    ]
    dtypes = [
        f"{name}: got dtype {source[name].dtype}, expected {own[name].dtype}" for name in retyped
    ]
    differing = {*reshaped, *retyped}
    return Match(
        matched=tuple(name for name in common if name not in differing),
        missing=tuple(sorted(own.keys() - source.keys())),
        unexpected=tuple(sorted(source.keys() - own.keys())),
        reshaped=tuple(reshaped),
        retyped=tuple(retyped),
        differences=(*shapes, *dtypes),
    )


def body_names(own: Layout, source: Layout, head: Collection[str]) -> frozenset[str]:
    """Give what is taken over where labels differ: all that fits, but the head.

    Empty for a source of another architecture: there is nothing to take.
    """
    return frozenset(match(own, source).matched) - frozenset(head)


def _some(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names)[:_NAMED_OF_A_KIND]
