"""Three ways to show a run: a live table on a terminal, a line per event elsewhere, JSON on demand."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from fedloom.api.job import FederatedLearningJob

Event = Mapping[str, Any]


class Screen(Protocol):
    """Shows the events of a run as they come."""

    def show(self, event: Event) -> None: ...


@contextmanager
def open_screen(output: str, job: FederatedLearningJob) -> Iterator[Screen]:
    """Give the screen for `-o output` and this standard output."""
    if output == "json":
        yield JsonScreen()
    elif sys.stdout.isatty():
        from cli.live_table import LiveTable

        with LiveTable(job) as table:
            yield table
    else:
        yield LineScreen(job)


class JsonScreen:
    """One JSON object per line on standard output: rounds and the end. Notices go to standard error."""

    def show(self, event: Event) -> None:
        if event["event"] == "notice":
            print(f"{event['reason']}: {event['message']}", file=sys.stderr, flush=True)
        else:
            print(json.dumps(event, allow_nan=False), flush=True)


class LineScreen:
    """One plain line per event."""

    def __init__(self, job: FederatedLearningJob) -> None:
        spec = job.spec
        algorithm = spec.algorithm.name if spec.algorithm else "fedavg"
        print(
            f"{job.metadata.namespace}/{job.metadata.name}: {spec.rounds} rounds, "
            f"{len(spec.training_workers)} clients, {algorithm}, "
            f"uplink {spec.compression.uplink.codec}",
            flush=True,
        )

    def show(self, event: Event) -> None:
        for line in lines_of(event):
            print(line, flush=True)


def lines_of(event: Event) -> list[str]:
    """Say an event in plain lines."""
    if event["event"] == "notice":
        return [f"{event['reason']}: {event['message']}"]
    if event["event"] == "round":
        cells = row_of(event)
        return [
            f"round {cells['round']:>5}  "
            + "  ".join(f"{k} {v}" for k, v in cells["metrics"].items())
            + f"  clients {cells['clients']}  up {cells['up']}  down {cells['down']}  {cells['seconds']}",
            *failures_of(event),
        ]
    if event["event"] == "transfer":
        return beginning_of(event)
    return summary_of(event)


def beginning_of(event: Event) -> list[str]:
    """What a job that learns from others begins with: the choice, the figures, what could not be used."""
    lines = [f"begins with {event['choice']}  {event['reason']}: {event['message']}"]
    for score in event["scores"]:
        loss = "-" if score["loss"] is None else f"{score['loss']:.4f}"
        lines.append(f"    probe  {score['candidate']}  loss {loss}  samples {score['samples']}")
    lines += [
        f"    {each['name']}: {each['reason']}: {each['message']}" for each in event["unusable"]
    ]
    if event["scores"]:
        up, down = (size_text(event["traffic"][f"{way}link_bytes"]) for way in ("up", "down"))
        lines.append(f"    probe  up {up}  down {down}")
    return lines


def row_of(event: Event) -> dict[str, Any]:
    """The cells of a round's row as text; `metrics` by name."""
    clients = event["clients"].values()
    good = sum(client["state"] == "Succeeded" for client in clients)
    return {
        "round": f"{event['round']}/{event['rounds']}",
        "metrics": {name: f"{value:.4f}" for name, value in sorted(event["metrics"].items())},
        "clients": f"{good}/{len(clients)}",
        "up": size_text(event["traffic"]["uplink_bytes"]),
        "down": size_text(event["traffic"]["downlink_bytes"]),
        "seconds": "-" if event["seconds"] is None else f"{event['seconds']:.3f} s",
    }


def failures_of(event: Event) -> list[str]:
    """A line for each client that failed."""
    return [
        f"    {name} failed: {client['reason']}: {client.get('message', '')}"
        for name, client in event["clients"].items()
        if client["state"] == "Failed"
    ]


def summary_of(event: Event) -> list[str]:
    """The last lines of a run: how it ended and where things are."""
    tracking, model = event["tracking"], event["model"]
    lines = [f"{event['phase']}: {event['message']}"]
    if event["metrics"]:
        lines.append(
            "  metrics  " + "  ".join(f"{k} {v:.4f}" for k, v in sorted(event["metrics"].items()))
        )
    if model:
        lines.append(f"  model    {model['uri']}")
        lines.append(f"           {model['digest']}")
    if tracking.get("url") or tracking.get("run_id"):
        lines.append(f"  mlflow   {tracking.get('url') or tracking['uri']}")
        if tracking.get("uri", "").startswith("sqlite:"):
            lines.append(f"           mlflow ui --backend-store-uri {tracking['uri']}")
    if not tracking.get("available", True):
        pending = tracking.get("pending_rounds", "?")
        lines.append(f"  mlflow   {pending} rounds are not logged yet; run again to log them")
    return lines


def size_text(size_bytes: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size_bytes < 1000 or unit == "GB":
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError
