"""The whole page: its head, the sections in their order, its foot."""

from __future__ import annotations

from pathlib import Path

from cli.report_page.beginning import beginning_section
from cli.report_page.facts import Run
from cli.report_page.figures import metrics_section, timeline_section, traffic_section
from cli.report_page.headline import headline
from cli.report_page.tables import clients_section, failures_section
from cli.report_page.wording import moment_text, text
from fedloom import __version__

# Should anything of a job ever get into the page unescaped, it still runs and fetches nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(run: Run, now: float) -> str:
    """The document about this run; `now` in unix seconds."""
    title = f"{text(run.job.namespace)}/{text(run.job.name)}"
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    sections = (
        beginning_section,
        metrics_section,
        traffic_section,
        clients_section,
        timeline_section,
        failures_section,
    )
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n',
            f"<title>{title} · Fedloom</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n",
            headline(run),
            *(draw(run) for draw in sections),
            f"<footer>Written by Fedloom {text(__version__)} at {moment_text(now)} from "
            f"<code>{text(run.place, 1000)}</code></footer>\n",
            "</main>\n</body>\n</html>\n",
        ]
    )
