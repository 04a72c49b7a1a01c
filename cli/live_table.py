"""The table that grows while a job runs on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from cli.screens import Event, beginning_of, failures_of, row_of, summary_of
from fedloom.api.job import FederatedLearningJob

_METRICS = 4
_ALWAYS = ("privacy/epsilon",)  # what is spent is seen however much else is measured


class LiveTable:
    """Rounds as rows; a row per round, redrawn a few times a second.

    While it grows, only what fits on the screen is shown; at the end all of it is.
    """

    def __init__(self, job: FederatedLearningJob) -> None:
        self._console = Console()
        self._job = job
        self._rows: list[dict[str, Any]] = []
        self._end: list[str] = []
        self._is_growing = True
        self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=8)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_growing = False
        self._live.stop()
        for line in self._end:
            self._console.print(line, highlight=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        if event["event"] == "finished":
            self._end = summary_of(event)
        elif event["event"] == "notice":
            self._live.console.print(f"{event['reason']}: {event['message']}", highlight=False)
        elif event["event"] == "transfer":
            for line in beginning_of(event):
                self._live.console.print(line, highlight=False)
        else:
            self._rows.append(row_of(event))
            for line in failures_of(event):
                self._live.console.print(line, highlight=False)

    def _table(self) -> Table:
        spec = self._job.spec
        algorithm = spec.algorithm.name if spec.algorithm else "fedavg"
        title = (
            f"{self._job.metadata.namespace}/{self._job.metadata.name}: "
            f"{algorithm}, uplink {spec.compression.uplink.codec}"
        )
        table = Table(
            title=title,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        names = _shown(dict.fromkeys(name for row in self._rows for name in row["metrics"]))
        table.add_column("round", justify="right", no_wrap=True)
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        for name in ("clients", "up", "down", "time"):
            table.add_column(name, justify="right", no_wrap=True)
        visible = max(5, self._console.height - 8)
        for row in self._rows[-visible:] if self._is_growing else self._rows:
            cells = [row["metrics"].get(name, "") for name in names]
            table.add_row(
                row["round"], *cells, row["clients"], row["up"], row["down"], row["seconds"]
            )
        return table


def _shown(names: Iterable[str]) -> list[str]:
    """The first metrics, and epsilon where there is one."""
    kept = list(names)
    always = [name for name in kept if name in _ALWAYS]
    others = [name for name in kept if name not in _ALWAYS]
    return others[: _METRICS - len(always)] + always
