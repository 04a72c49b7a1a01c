"""How values are written on the page: escaped text, numbers, sizes, durations, moments."""

from __future__ import annotations

import html
import math
import re
from datetime import UTC, datetime

from cli.screens import size_text

NONE = "\u2013"
_BREAKS = re.compile(r"[\n\r\t]+")
# Control characters, lone surrogates, and the marks that turn the direction of a line around.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)


def text(value: object, most: int = 400) -> str:
    """Any value as text that is safe between tags and in quoted attributes; at most `most` letters."""
    plain = _UNPRINTABLE.sub("\ufffd", _BREAKS.sub(" ", str(value)))
    if len(plain) > most:
        plain = f"{plain[: most - 1]}…"
    return html.escape(plain, quote=True)


def number_text(value: float | None) -> str:
    """A measured value with four digits that mean something."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"
    return _exponent(f"{value:.3e}")


def count_text(value: int) -> str:
    return f"{value:,}"


def bytes_text(size_bytes: float | None) -> str:
    return NONE if size_bytes is None else size_text(size_bytes)


def seconds_text(seconds: float | None) -> str:
    """A duration in the unit that fits: `12 ms`, `3.42 s`, `2 min 5 s`, `1 h 4 min`."""
    if seconds is None:
        return NONE
    if seconds < 1:
        thousandths = seconds * 1000
        return f"{thousandths:.1f} ms" if thousandths < 10 else f"{thousandths:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def moment_text(unix_seconds: float | None) -> str:
    """A moment in UTC, to the second."""
    if unix_seconds is None:
        return NONE
    try:
        return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return NONE


def plural(count: int, word: str) -> str:
    """`1 client`, `2,000 clients`."""
    return f"{count_text(count)} {word}" if count == 1 else f"{count_text(count)} {word}s"


def tick_text(value: float, step: float) -> str:
    """A tick's label: as many decimals as tell it from its neighbours, `step` away."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or step < 1e-4:
        digits = math.floor(math.log10(abs(value))) - math.floor(math.log10(step))
        return _exponent(f"{value:.{min(max(digits, 0), 12)}e}")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}"


def natural_order(name: str) -> tuple[str, ...]:
    """A key for sorting: client-2 before client-10."""
    pieces = re.split("([0-9]+)", name)
    digits = [piece.lstrip("0") for piece in pieces[1::2]]
    pieces[1::2] = [f"{len(number):09}{number}" for number in digits]
    return (*pieces, name)


def _exponent(written: str) -> str:
    digits, _, power = written.partition("e")
    return f"{digits}e{int(power)}"
