"""What a field of the API declares about itself: YAML name, meaning, bounds.

A field is written `rounds: Annotated[int | None, Declared("...", Bounds(minimum=1))] = None`. The
reader, the checks and the CRD schemas are derived from these declarations and from nothing else.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

REQUIRED: Any = object()
"""`DeclaredField.default` of a field that has none."""


@dataclass(frozen=True)
class Bounds:
    """Which values a field takes, beyond its type.

    Attributes:
        minimum, maximum: inclusive ends of a number.
        above, below: exclusive ends of a number.
        power_of_two: an integer must be one.
        choices: the only texts allowed; empty allows any.
        pattern: a regular expression the whole text must match, in the dialect of both Python and
            Go's RE2; `pattern_meaning` says it in words, after "expected".
        max_length: of a text, in characters.
        max_items: of a list.
        is_time: a text that is an RFC 3339 time, which the API server checks.
    """

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    power_of_two: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""
    pattern_meaning: str = ""
    max_length: int | None = None
    max_items: int | None = None
    is_time: bool = False

    def violation(self, value: object) -> str | None:
        """Say what was expected of `value`, or None where it is within the bounds."""
        if isinstance(value, str):
            return self._text_violation(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._number_violation(value)
        if isinstance(value, tuple) and self.max_items is not None and len(value) > self.max_items:
            return f"at most {self.max_items} entries"
        return None

    def _text_violation(self, value: str) -> str | None:
        if self.choices and value not in self.choices:
            return one_of(self.choices)
        if self.max_length is not None and len(value) > self.max_length:
            return f"at most {self.max_length} characters"
        if self.pattern and not re.fullmatch(self.pattern, value):
            return self.pattern_meaning
        return None

    def _number_violation(self, value: float) -> str | None:
        if self.minimum is not None and value < self.minimum:
            return f"at least {self.minimum}"
        if self.above is not None and value <= self.above:
            return f"more than {self.above}"
        if self.maximum is not None and value > self.maximum:
            return f"at most {self.maximum}"
        if self.below is not None and value >= self.below:
            return f"less than {self.below}"
        if self.power_of_two and (not isinstance(value, int) or value & (value - 1)):
            return "a power of two"
        return None


UNBOUNDED = Bounds()
RFC_3339 = Bounds(is_time=True)


class Form(Enum):
    """How a field is written in YAML, where that is not simply `name: value`."""

    PLAIN = "plain"
    PRESENCE = "presence"
    """a boolean that is written as an empty object: there = true"""
    INLINE = "inline"
    """a mapping whose entries stand beside the other fields of its object"""
    EMPTY_IS_ABSENT = "empty is absent"
    """an optional reference whose empty name means that there is none"""


@dataclass(frozen=True)
class Parameter:
    """A named number or word that an algorithm or a codec takes: its default, meaning and bounds.

    `kind_if_absent` is its type where it has no default: a job that does not name it has none.
    """

    description: str
    default: float | int | str | None
    bounds: Bounds = UNBOUNDED
    kind_if_absent: type[float] | type[int] = float

    @property
    def kind(self) -> type[float] | type[int] | type[str]:
        return self.kind_if_absent if self.default is None else type(self.default)

    @property
    def is_integer(self) -> bool:
        return self.kind is int


Catalogue = Mapping[str, Mapping[str, Parameter]]
"""What can be chosen by name -> the parameters of each."""


@dataclass(frozen=True)
class Declared:
    """The declaration of one field.

    Attributes:
        description: what it means, a sentence or two, shown by `kubectl explain`.
        bounds: see Bounds.
        name: its YAML name, where that is not the attribute in camelCase.
        form: see Form.
        catalogue: what can be chosen here, where the field's type is a choice with parameters.
        secret: never show the value, not even in the message that refuses it.
        list_key: the field that tells the entries of a list apart.
    """

    description: str
    bounds: Bounds = UNBOUNDED
    name: str = ""
    form: Form = Form.PLAIN
    catalogue: Catalogue | None = None
    secret: bool = False
    list_key: str = ""


@dataclass(frozen=True)
class Rule:
    """A CEL rule of an object's schema; classes list theirs in `RULES`."""

    expression: str
    message: str


@dataclass(frozen=True)
class DeclaredField:
    """One field of a dataclass as the API sees it; `default` is REQUIRED where there is none."""

    attribute: str
    name: str
    type: Any
    declared: Declared
    default: Any

    @property
    def is_required(self) -> bool:
        return self.default is REQUIRED

    @property
    def is_optional(self) -> bool:
        """Whether the attribute may be None."""
        return type(None) in typing.get_args(self.type)


def declared_fields(noun: type[Any]) -> tuple[DeclaredField, ...]:
    """Give the declared fields of a dataclass in order; a field without `Declared` is left out."""
    if noun not in _FIELDS:
        _FIELDS[noun] = tuple(_fields_of(noun))
    return _FIELDS[noun]


# Taking a class apart costs a thousand times what a look-up does, and every object needs it.
_FIELDS: dict[type[Any], tuple[DeclaredField, ...]] = {}


def _fields_of(noun: type[Any]) -> typing.Iterator[DeclaredField]:
    hints = typing.get_type_hints(noun, include_extras=True)
    for field in dataclasses.fields(noun):
        extras = getattr(hints[field.name], "__metadata__", ())
        for declared in (extra for extra in extras if isinstance(extra, Declared)):
            name = declared.name or camel_case(field.name)
            plain = typing.get_args(hints[field.name])[0]
            yield DeclaredField(field.name, name, plain, declared, _default_of(field))


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return REQUIRED


def camel_case(snake: str) -> str:
    """`min_clients` -> `minClients`."""
    head, *tail = snake.split("_")
    return head + "".join(word.capitalize() for word in tail)


def one_of(names: typing.Iterable[str]) -> str:
    """`a, b or c`."""
    *head, last = names
    return f"{', '.join(head)} or {last}" if head else str(last)
