"""The words of a problem: where, what was got, what was expected, what may have been meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from fedloom.api.declaration import one_of

TYPE_WORDS: Mapping[type, str] = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
}
_LONGEST_SHOWN = 60


def at(path: str, name: object) -> str:
    """The path of a named part: `spec.rounds`."""
    text = name if isinstance(name, str) else shown(name)
    if not re.fullmatch(r"[A-Za-z_][\w-]*", text):
        return f"{path}[{_shortened(repr(text))}]"
    return f"{path}.{text}" if path else text


def entry(path: str, index: int) -> str:
    """The path of an entry of a list: `spec.trainingWorkers[1]`."""
    return f"{path}[{index}]"


def shown(value: object) -> str:
    """A value and its type, in a few words; of a mapping or a list the type only."""
    if isinstance(value, bool):
        return f"{str(value).lower()} (a boolean)"
    if isinstance(value, int):
        # Writing out a huge integer is slow, or refused by Python.
        return f"{value} (an integer)" if value.bit_length() < 200 else "a huge integer"
    if isinstance(value, float):
        return f"{value} (a number)"
    if isinstance(value, str):
        return f"{_shortened(repr(value))} (text)"
    return _kind(value)


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return f"a {type(value).__name__}"


def wrong_type(value: object, expected: str | tuple[type, ...], hidden: bool = False) -> str:
    """`got '5' (text), expected an integer: leave out the quotes`."""
    got = "a value of another type" if hidden else shown(value)
    if isinstance(expected, str):
        return f"got {got}, expected {expected}"
    words = one_of([TYPE_WORDS[each] for each in expected])
    return f"got {got}, expected {words}{_hint(value, expected)}"


def _hint(value: object, expected: tuple[type, ...]) -> str:
    if isinstance(value, str) and (int in expected or float in expected) and _is_number(value):
        return ": leave out the quotes"
    if isinstance(value, bool | int | float) and str in expected:
        return ": put it in quotes"
    if isinstance(value, float) and int in expected and value.is_integer():
        return ": leave out the decimals"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """`unknown field, did you mean 'rounds'?`, or the names there are."""
    names = list(known)
    meant = meant_by(name, names)
    if meant:
        return f"unknown {what}, did you mean {meant!r}?"
    return (
        f"unknown {what}, expected {one_of(names)}" if names else f"unknown {what}, expected none"
    )


def meant_by(name: object, known: Iterable[str]) -> str | None:
    """The name that was probably meant: the same but for case, `_` and `-`, or a similar one."""
    if not isinstance(name, str):
        return None
    folded = {_folded(each): each for each in known}
    found = difflib.get_close_matches(_folded(name)[:100], folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def _folded(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
