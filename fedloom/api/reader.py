"""From a value of a document to a declared type: every problem is collected, none stops the rest.

What is checked here is what a field says about itself: its name, its type, its bounds.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any

from fedloom.api.declaration import Declared, DeclaredField, Form, declared_fields
from fedloom.api.pod import PodTemplate
from fedloom.api.wording import TYPE_WORDS, at, entry, shown, unknown_name, wrong_type
from fedloom.errors import InvalidJobError, Problem

BAD: Any = object()
"""What reading gives for a value that was refused."""

_PLAIN = Declared("")


class Reader:
    """Reads values by their declared types and remembers every problem."""

    def __init__(self, passes_unknown: bool = False) -> None:
        self.problems: list[Problem] = []
        self._passes_unknown = passes_unknown

    def guarded(self, read: Callable[[object], Any], document: object) -> Any:
        """Give what `read` gives, or raise InvalidJobError with what was found meanwhile."""
        try:
            result = read(document)
        except RecursionError:
            result = self.refuse("", "nested too deeply to be read")
        if self.problems:
            raise InvalidJobError(self.problems, None if result is BAD else result)
        return result

    def refuse(self, path: str, message: str) -> Any:
        """Remember a problem and give BAD."""
        self.problems.append(Problem(path, message))
        return BAD

    def refuse_unknown(self, value: Mapping[Any, Any], known: tuple[str, ...], path: str) -> None:
        """Remember a problem for each name that is not among `known`."""
        if self._passes_unknown:
            return
        for key in value:
            if key not in known:
                self.refuse(at(path, key), unknown_name("field", key, known))

    def required(self, noun: type[Any], value: object, path: str) -> Any:
        """Read a mapping that must be there into a dataclass."""
        if value is None:
            return self.refuse(path, "missing, expected a mapping")
        return self.noun(noun, value, path)

    def noun(self, noun: type[Any], value: object, path: str) -> Any:
        """Read a mapping into a dataclass."""
        if not isinstance(value, Mapping):
            return self.refuse(path, wrong_type(value, "a mapping"))
        fields = declared_fields(noun)
        inline = next((each for each in fields if each.declared.form is Form.INLINE), None)
        written = {each.name: each for each in fields if each is not inline}
        read = {
            each.attribute: self._field(each, value.get(name), at(path, name))
            for name, each in written.items()
        }
        if inline:
            rest = {key: item for key, item in value.items() if key not in written}
            read[inline.attribute] = self.value(inline.type, rest, path, inline.declared)
        else:
            self.refuse_unknown(value, tuple(written), path)
        defaults = {each.attribute: each.default for each in fields if not each.is_required}
        read = {name: defaults.get(name, BAD) if it is BAD else it for name, it in read.items()}
        if any(item is BAD for item in read.values()):
            return BAD
        return noun(**read)

    def value(self, hint: Any, value: object, path: str, declared: Declared = _PLAIN) -> Any:
        """Read one value of a declared type."""
        origin = typing.get_origin(hint)
        if hint is PodTemplate:
            return self._template(value, path)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self.noun(hint, value, path)
        if origin is tuple:
            return self._sequence(typing.get_args(hint)[0], value, path)
        if origin is collections.abc.Mapping:
            return self._mapping(typing.get_args(hint)[1], value, path, declared)
        if hint is Any:
            return self._plain(value, path)
        return self._scalar(hint, value, path, declared)

    def _field(self, field: DeclaredField, value: object, path: str) -> Any:
        hint = field.type
        if field.is_optional:
            (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
        if value is None:
            return self._absent(field, hint, path)
        if field.declared.form is Form.PRESENCE:
            return self._presence(value, path)
        if field.declared.form is Form.EMPTY_IS_ABSENT and value == {"name": ""}:
            return None
        result = self.value(hint, value, path, field.declared)
        violated = None if result is BAD else field.declared.bounds.violation(result)
        if violated:
            return self.refuse(path, f"got {shown(result)}, expected {violated}")
        return result

    def _absent(self, field: DeclaredField, hint: Any, path: str) -> Any:
        if not field.is_required:
            return field.default
        words = "a list" if typing.get_origin(hint) is tuple else TYPE_WORDS.get(hint, "a mapping")
        return self.refuse(path, f"missing, expected {words}")

    def _presence(self, value: object, path: str) -> Any:
        if not isinstance(value, Mapping):
            return self.refuse(path, wrong_type(value, "an empty mapping {}"))
        self.refuse_unknown(value, (), path)
        return True

    def _sequence(self, hint: Any, value: object, path: str) -> Any:
        if not isinstance(value, list | tuple):
            return self.refuse(path, wrong_type(value, "a list"))
        items = tuple(self.value(hint, item, entry(path, i)) for i, item in enumerate(value))
        return BAD if any(item is BAD for item in items) else items

    def _mapping(self, hint: Any, value: object, path: str, declared: Declared) -> Any:
        if not isinstance(value, Mapping):
            return self.refuse(path, wrong_type(value, "a mapping"))
        items = {}
        for key, item in value.items():
            if isinstance(key, str):
                items[key] = self.value(hint, item, at(path, key), declared)
            else:
                items[""] = self.refuse(
                    at(path, key), f"got a name that is {shown(key)}, expected text"
                )
        return BAD if any(item is BAD for item in items.values()) else items

    def _scalar(self, hint: Any, value: object, path: str, declared: Declared) -> Any:
        taken = typing.get_args(hint) or (hint,)
        if not _fits(value, taken):
            return self.refuse(path, wrong_type(value, taken, hidden=declared.secret))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._number(value, path, as_float=hint is float)
        return value

    def _number(self, value: float, path: str, as_float: bool) -> Any:
        # float() of an integer beyond 1e308 overflows; no field has a use for one.
        if not -1e308 <= value <= 1e308:
            return self.refuse(path, f"got {shown(value)}, expected a finite number")
        return float(value) if as_float else value

    def _plain(self, value: object, path: str) -> Any:
        """Take any value that JSON can write."""
        if isinstance(value, Mapping):
            return self._mapping(Any, value, path, _PLAIN)
        if isinstance(value, list | tuple):
            items = [self._plain(item, entry(path, i)) for i, item in enumerate(value)]
            return BAD if any(item is BAD for item in items) else items
        if value is None or isinstance(value, str | bool):
            return value
        if isinstance(value, int | float):
            return self._number(value, path, as_float=False)
        return self.refuse(path, f"got {shown(value)}, expected a value that JSON has")

    def _template(self, value: object, path: str) -> Any:
        before = len(self.problems)
        if not isinstance(value, Mapping):
            return self.refuse(path, wrong_type(value, "a pod template"))
        raw = self._plain(value, path)
        spec = value.get("spec")
        containers = spec.get("containers") if isinstance(spec, Mapping) else None
        where = at(at(path, "spec"), "containers")
        if not isinstance(containers, list | tuple) or not containers:
            return self.refuse(
                where, f"got {shown(containers)}, expected a list of at least one container"
            )
        for i, container in enumerate(containers):
            name = container.get("name") if isinstance(container, Mapping) else None
            if not isinstance(container, Mapping):
                self.refuse(entry(where, i), wrong_type(container, "a mapping"))
            elif not isinstance(name, str) or not name:
                self.refuse(at(entry(where, i), "name"), f"got {shown(name)}, expected a name")
        return PodTemplate(raw) if len(self.problems) == before else BAD


def _fits(value: object, taken: tuple[Any, ...]) -> bool:
    if isinstance(value, bool):  # an int to Python, but not to who writes YAML
        return bool in taken
    if isinstance(value, int):
        return int in taken or float in taken
    return isinstance(value, tuple(each for each in taken if each in (float, str)))
