"""The tree that grows while a job runs on a cluster: job, rounds, clients and their steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cli.cluster.cells import bytes_text, seconds_text
from cli.cluster.jobs import (
    age_seconds,
    main_metric,
    rounds_in_all,
    status_of,
    title_of,
    verdict_of,
)
from cli.cluster.news import in_short
from cli.cluster.picture import Attempt, Picture, Step, Worker
from cli.cluster.watch import event_lines
from cli.screens import Event, row_of
from fedloom.api.status import ClientStatus
from pipelines.engines.argo_clients import FAILED, PENDING, RUNNING, SUCCEEDED

_MARKS = {SUCCEEDED: "✔", FAILED: "✖", RUNNING: "●", PENDING: "○"}
_STYLES = {SUCCEEDED: "green", FAILED: "red", RUNNING: "cyan", PENDING: "dim"}
_COLUMNS = 6  # beside the last, which takes what is left of the line
_FEWEST_LINES = 8


@dataclass(frozen=True)
class Row:
    """One line of the tree; `state` colours it."""

    label: str
    state: str
    node: str = ""
    time: str = ""
    loss: str = ""
    up: str = ""
    down: str = ""
    note: str = ""


class LiveTree:
    """Redrawn a few times a second; at the end all rounds stay on the screen."""

    def __init__(self) -> None:
        self._console = Console()
        self._rounds: list[Row] = []
        self._end: list[str] = []
        self._picture: Picture | None = None
        self._is_growing = True
        self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=4)

    def __enter__(self) -> LiveTree:
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
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        if event["event"] == "finished":
            self._end = event_lines(event)
        elif event["event"] == "round":
            self._rounds.append(round_row(event))
        elif not event.get("is_detail"):
            line = f"{event['reason']}: {event['message']}"
            self._live.console.print(line, highlight=False, markup=False)

    def draw(self, picture: Picture) -> None:
        self._picture = picture

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        for _ in range(_COLUMNS):
            table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        if self._picture is None:
            return table
        height = max(_FEWEST_LINES, self._console.height - 2) if self._is_growing else None
        for row in rows_of(self._picture, self._rounds, time.time(), height):
            cells = (row.node, row.time, row.loss, row.up, row.down, row.note)
            table.add_row(row.label, *cells, style=_STYLES.get(row.state))
        return table


def rows_of(
    picture: Picture, rounds: list[Row], now: float, height: int | None = None
) -> list[Row]:
    """Give the lines of the tree, at most `height`: the job, its rounds, the clients of the one at hand."""
    attempt = picture.newest(now=now)
    status = status_of(picture.job)
    done = status.model.round if status.model is not None else -1
    is_running = status.phase not in (SUCCEEDED, FAILED)
    if attempt is not None and (attempt.round <= done or not is_running):
        attempt = None
    work = list(_work_rows(picture, attempt, now)) if attempt is not None else []
    if height is not None:
        work = _cut(work, height - 4)
        rounds = rounds[-max(2, height - 2 - len(work)) :]
    top = [_job_row(picture, now), *rounds]
    return [
        *(
            _branch(row, is_last=not work and index == len(top) - 1)
            for index, row in enumerate(top)
        ),
        *work,
    ]


def round_row(event: Event) -> Row:
    """The line of a committed round."""
    cells = row_of(event)
    metrics = dict(cells["metrics"])
    loss = metrics.pop("train/loss", "")
    shown = "  ".join(f"{name} {value}" for name, value in list(metrics.items())[:3])
    good = cells["clients"].partition("/")
    return Row(
        label=f"round {event['round']} {_MARKS[SUCCEEDED]}",
        state=SUCCEEDED if good[0] == good[2] else PENDING,
        time=seconds_text(event["seconds"]),
        loss=loss,
        up=bytes_text(event["traffic"]["uplink_bytes"]),
        down=bytes_text(event["traffic"]["downlink_bytes"]),
        note=f"clients {cells['clients']}  {shown}".rstrip(),
    )


def _job_row(picture: Picture, now: float) -> Row:
    status = status_of(picture.job)
    metric, verdict = main_metric(picture.job, status), verdict_of(status)
    phase = status.phase or PENDING
    total = status.traffic
    return Row(
        label=f"{title_of(picture.job)}  {phase}  "
        f"round {status.current_round or 0}/{rounds_in_all(picture.job)}",
        state=phase,
        time=seconds_text(age_seconds(picture.job, now)),
        up=bytes_text(total.uplink_bytes if total else None),
        down=bytes_text(total.downlink_bytes if total else None),
        note="  ".join(filter(None, (" ".join(metric or ()), verdict.reason if verdict else ""))),
    )


def _work_rows(picture: Picture, attempt: Attempt, now: float) -> Iterator[Row]:
    tried = f", attempt {attempt.attempt}" if attempt.attempt > 1 else ""
    since = None if attempt.started is None else (attempt.finished or now) - attempt.started
    yield Row(
        f"└─ round {attempt.round}{tried} {_MARKS[RUNNING]}",
        RUNNING,
        time=seconds_text(since),
        note=attempt.workflow,
    )
    before = {client.name: client for client in status_of(picture.job).clients}
    for index, worker in enumerate(attempt.workers):
        branch = "└─" if index == len(attempt.workers) - 1 else "├─"
        yield _worker_row(f"   {branch} ", worker, before.get(worker.name))


def _worker_row(prefix: str, worker: Worker, before: ClientStatus | None) -> Row:
    """A client: loss and bytes are those of the last round that told them."""
    status = worker.status
    message = in_short(status.message)
    why = f"{status.reason}: {message}" if status.reason and message else status.reason
    steps = " → ".join(map(_step_text, worker.steps))
    return Row(
        label=f"{prefix}{worker.name} {_MARKS.get(status.state, '')}",
        state=status.state,
        node=status.node or (before.node_name if before else None) or "",
        time=seconds_text(status.seconds),
        loss=before.metrics.get("loss", "") if before else "",
        up=bytes_text(before.uplink_bytes) if before else "",
        down=bytes_text(before.downlink_bytes) if before else "",
        note=why or steps,
    )


def _step_text(step: Step) -> str:
    took = f" {seconds_text(step.seconds)}" if step.seconds is not None else ""
    return f"{step.name} {_MARKS[step.state]}{took}"


def _branch(row: Row, *, is_last: bool) -> Row:
    if not row.label.startswith("round"):
        return row
    return Row(**{**row.__dict__, "label": f"{'└─' if is_last else '├─'} {row.label}"})


def _cut(rows: list[Row], most: int) -> list[Row]:
    """Keep the head, what failed or runs, and as many of the others as there is place for."""
    if len(rows) <= most or most < 3:
        return rows[: max(3, most)]
    urgency = {FAILED: 0, RUNNING: 1, PENDING: 2}
    order = sorted(range(1, len(rows)), key=lambda i: urgency.get(rows[i].state, 3))
    kept = sorted(order[: most - 2])
    more = Row(f"   └─ and {len(rows) - 1 - len(kept)} more", PENDING)
    return [rows[0], *(rows[index] for index in kept), more]
