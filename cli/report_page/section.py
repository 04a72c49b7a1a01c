"""The blocks that every section of the page is built from; words are escaped here, HTML is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cli.report_page.wording import text

Cell = tuple[str, str]


def section(title: str, *parts: str) -> str:
    """A section; `parts` are HTML."""
    return f"<section><h2>{text(title)}</h2>{''.join(parts)}</section>\n"


def note(words: str) -> str:
    """A paragraph in small print; nothing without words."""
    return f'<p class="note">{text(words, 2000)}</p>' if words else ""


def legend(keys: Iterable[tuple[str, str]]) -> str:
    """What the colours mean: names and the classes that colour them."""
    drawn = "".join(
        f'<span><svg viewBox="0 0 18 10" aria-hidden="true">'
        f'<rect class="{style}" width="18" height="10"/></svg>{text(name, 40)}</span>'
        for name, style in keys
    )
    return f'<div class="legend">{drawn}</div>'


def table(head: Sequence[Cell], rows: Iterable[Sequence[Cell]]) -> str:
    """A table of cells, each a class (empty for none) and HTML."""
    top = "".join(_cell("th", cell) for cell in head)
    body = "".join(f"<tr>{''.join(_cell('td', cell) for cell in row)}</tr>\n" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(tag: str, cell: Cell) -> str:
    style, content = cell
    return f'<{tag} class="{style}">{content}</{tag}>' if style else f"<{tag}>{content}</{tag}>"
