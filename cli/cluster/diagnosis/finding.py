"""What a check says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from controller.cluster.answers import ForbiddenError
from fedloom.errors import FedloomError

_CANNOT = re.compile(r'cannot \w+ resource "[^"]+"')
OK, PROBLEM, UNKNOWN = "ok", "problem", "unknown"


@dataclass(frozen=True)
class Finding:
    """One line: `state` is ok, problem or unknown; `advice` says what to do."""

    check: str
    state: str
    message: str
    advice: str = ""


@dataclass(frozen=True)
class Scope:
    """Where to look.

    Attributes:
        namespace: where jobs are to run.
        system_namespace: where the controller lives.
        edges: from how many edges to look at the store.
        has_pods: whether pods may be started.
    """

    namespace: str
    system_namespace: str
    edges: int
    has_pods: bool


def guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Give what a check finds; what it could not look at becomes a finding, too."""
    try:
        yield from check()
    except ForbiddenError as error:
        yield Finding(name, UNKNOWN, f"you may not look: {forbidden(error)}")
    except FedloomError as error:
        yield Finding(name, PROBLEM, str(error))


def forbidden(error: ForbiddenError) -> str:
    """What exactly is not allowed, of all that an API server says about it."""
    found = _CANNOT.search(str(error))
    return found[0].replace('"', "") if found else str(error)


def listed(names: list[str], most: int = 4) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
