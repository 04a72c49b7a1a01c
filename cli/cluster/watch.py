"""`fedloom watch`: follow a job to its end, with a screen that fits what it is written to."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from cli.cluster.feed import Feed
from cli.cluster.jobs import find_job, rounds_in_all, title_of
from cli.cluster.news import News
from cli.cluster.picture import Picture
from cli.screens import Event, JsonScreen, lines_of
from controller.cluster.kubernetes import Cluster, Document

_LOOK_SECONDS = 1.0


class WatchScreen(Protocol):
    """Shows what happens, and how things stand between two events."""

    def show(self, event: Event) -> None: ...
    def draw(self, picture: Picture) -> None: ...


def watch_job(
    server: Cluster, namespace: str, name: str, output: str, timeout_seconds: float | None
) -> int:
    """Follow a job; give the exit code: 0 only when it is complete, 130 when interrupted."""
    job = find_job(server, namespace, name)
    feed = Feed(server, job)
    try:
        with open_watch_screen(output, job) as screen:
            feed.start()
            return _follow(feed, screen, timeout_seconds)
    except KeyboardInterrupt:
        print(f"{title_of(job)} goes on; this only looked at it", file=sys.stderr)
        return 130
    finally:
        feed.stop()


@contextmanager
def open_watch_screen(output: str, job: Document) -> Iterator[WatchScreen]:
    """Give the screen for `-o output` and this standard output."""
    if output == "json":
        yield JsonWatch()
    elif sys.stdout.isatty():
        from cli.cluster.tree import LiveTree

        with LiveTree() as tree:
            yield tree
    else:
        yield LineWatch(job)


def _follow(feed: Feed, screen: WatchScreen, timeout_seconds: float | None) -> int:
    news, told, began = News(), set[str](), time.monotonic()
    while True:
        for picture in feed.pictures():
            for event in news.take(picture, time.time()):
                screen.show(event)
            screen.draw(picture)
        if news.end is not None:
            return 0 if news.end["phase"] == "Succeeded" else 1
        if feed.is_gone:
            screen.show(_notice("Deleted", "the job was deleted"))
            return 1
        for trouble in feed.troubles():
            if trouble not in told:
                told.add(trouble)
                screen.show(_notice("NotSeen", trouble))
        if timeout_seconds is not None and time.monotonic() - began >= timeout_seconds:
            screen.show(_notice("TimedOut", f"it has not ended within {timeout_seconds:g} s"))
            return 1
        feed.wait(_LOOK_SECONDS)


class JsonWatch(JsonScreen):
    """One JSON object per line: rounds and the end. Notices go to standard error."""

    def draw(self, picture: Picture) -> None:
        """Between events there is nothing to say."""


class LineWatch:
    """One plain line per event."""

    def __init__(self, job: Document) -> None:
        clients = len((job.get("spec") or {}).get("trainingWorkers") or ())
        print(f"{title_of(job)}: {rounds_in_all(job)} rounds, {clients} clients", flush=True)

    def show(self, event: Event) -> None:
        for line in event_lines(event):
            print(line, flush=True)

    def draw(self, picture: Picture) -> None:
        """Between events there is nothing to say."""


def event_lines(event: Event) -> list[str]:
    """Say an event in plain lines."""
    if event["event"] != "finished":
        return lines_of(event)
    tracking: dict[str, Any] = dict(event["tracking"])
    url = tracking.get("url") or ""
    lines = lines_of({**event, "tracking": {"available": True} | ({"url": url} if url else {})})
    if not tracking.get("available", True):
        lines.append("  mlflow   not all rounds are logged yet; the controller goes on trying")
    return lines


def _notice(reason: str, message: str) -> Event:
    return {"event": "notice", "reason": reason, "message": message, "is_detail": False}
