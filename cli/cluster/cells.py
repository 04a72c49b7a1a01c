"""Cells of tables as text, and plain tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cli.screens import size_text


def seconds_text(seconds: float | None) -> str:
    """`4.2s`, `75s`, `12m`, `3h20m`, `5d`; a dash where it is not known."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s".replace(".0s", "s")
    if seconds < 120:
        return f"{seconds:.0f}s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    return f"{hours // 24}d"


def bytes_text(size_bytes: int | None) -> str:
    """A size; a dash where nothing was sent."""
    return size_text(size_bytes) if size_bytes else "-"


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay rows out under one another, the first being the heads."""
    table = [[cell or "-" for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
