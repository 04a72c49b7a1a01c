"""Texts that an engine would take for its own variables, in whatever a user wrote. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def text_with(marks: tuple[str, ...], value: Any) -> str | None:
    """Give the first text with one of `marks` in plain values, keys too, cut to be shown; None for none."""
    for text in _strings(value):
        if any(mark in text for mark in marks):
            return text if len(text) <= 60 else f"{text[:57]}..."
    return None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _strings(key)
            yield from _strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)
