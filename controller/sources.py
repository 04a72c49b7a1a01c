"""What a job that learns from others has found of its sources at one moment, and what follows. Pure.

Each entry of spec.transfer.from is looked up by whoever observes; here is decided whether the job can
begin, waits, or cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedloom.api.transfer import Transfer

LOOKING, WAITING = "LookingForSources", "WaitingForSource"
MOST_SOURCES = 64
"""So many go into a plan; five that fit are probed."""

READY, COMING, ABSENT = "Ready", "Coming", "Absent"

# Why a source is not ready. Those that come: it may be soon, or when somebody mends it.
RUNNING = "SourceRunning"
NOT_FOUND = "SourceNotFound"
FAILED = "SourceFailed"
UNFINISHED = "SourceUnfinished"
NOT_ALLOWED = "SourceNotAllowed"
CIRCULAR = "SourceCircular"
UNREADABLE = "SourceUnreadable"
REGISTRY_DOWN = "RegistryUnavailable"


@dataclass(frozen=True)
class Looked:
    """What is known of one entry of `from`.

    Attributes:
        name: of the source (see `fedloom.api.transfer.source_name`).
        state: Ready; Coming, it will be there without anybody's doing; Absent, it is not there.
        reason, message: why it is not ready.
        candidates: what it gives: one model, of a search in the registry any number.
    """

    name: str
    state: str
    reason: str = ""
    message: str = ""
    candidates: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Sources:
    """What all entries together amount to.

    Attributes:
        candidates: what can be learned from, best first.
        unusable: `name`, `reason`, `message` of each entry that gives nothing.
        waiting: reason and message, where the job waits.
        refused: reason and message, where it cannot begin.
    """

    candidates: tuple[Mapping[str, Any], ...] = ()
    unusable: tuple[Mapping[str, str], ...] = ()
    waiting: tuple[str, str] | None = None
    refused: tuple[str, str] | None = None


def gathered(transfer: Transfer, looked: Iterable[Looked], *, heals: bool) -> Sources:
    """Decide what a job with its defaults can begin with.

    It waits for every source that comes. For one that is absent it waits, too, where something may
    bring it (`heals`: a cluster, where objects are made any time) and nothing else can be used;
    else it begins from scratch, or fails, as spec.transfer.fallback says.
    """
    looked = list(looked)
    coming = [each for each in looked if each.state == COMING]
    absent = [each for each in looked if each.state == ABSENT]
    candidates = tuple(_limited(each for entry in looked for each in entry.candidates))
    unusable = tuple(
        {"name": each.name, "reason": each.reason, "message": each.message} for each in absent
    )
    if coming:
        return Sources(candidates, unusable, waiting=_said(coming))
    if candidates or transfer.fallback == "scratch":
        return Sources(candidates, unusable)
    if not absent:
        message = "spec.transfer: no model was found to learn from"
        return Sources(refused=("NoSource", message))
    if heals and any(each.reason not in (NOT_ALLOWED, CIRCULAR) for each in absent):
        return Sources((), unusable, waiting=_said(absent))
    return Sources((), unusable, refused=_said(absent))


def _limited(candidates: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Give the first ones, each model once."""
    seen: set[Any] = set()
    for each in candidates:
        identity = each.get("digest") or each.get("url") or each.get("key")
        if identity in seen:
            continue
        if len(seen) == MOST_SOURCES:
            return
        seen.add(identity)
        yield each


def _said(looked: list[Looked]) -> tuple[str, str]:
    first = looked[0].reason
    return first, "; ".join(f"{each.name}: {each.message}" for each in looked)
