"""Every error Fedloom raises on purpose, drawn as a tree.

FedloomError
├── JobError                    final: trying again gives the same answer
│   ├── InvalidJobError         a document is wrong; carries every problem that was found
│   ├── UpdateError             one client's update is refused; the client is dropped, the round goes on
│   ├── StateError              the state folder cannot be used (another job's, or in use)
│   ├── DataError               pictures or labels are not what a training script can use
│   └── ArtifactError
│       ├── ArtifactNotFoundError
│       └── CorruptArtifactError     size, digest or layout is not what was promised
└── TransientError              worth another try after `retry_after_seconds`
    ├── StoreUnavailableError
    └── TrackingUnavailableError

`reason` is the CamelCase word that ends up in a condition or a client's state; the message says what was
got, what was expected and where. Errors of other libraries are translated at the one door that
imports them and chained as the cause.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a document: `field` is its path (`spec.rounds`), `message` got/expected."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class FedloomError(Exception):
    """Root of the tree: catch it to catch everything that Fedloom raises on purpose."""


class JobError(FedloomError):
    """The job (or a part of it) cannot succeed as it is: final."""

    def __init__(self, reason: str, message: str, field: str | None = None) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.reason = reason
        self.message = message
        self.field = field


class InvalidJobError(JobError):
    """Documents that do not describe a runnable job; `problems` holds every finding, in order.

    `rest` is what could be read besides the wrong fields, where that makes an object at all: so that
    one look can find what is wrong with it as a whole, too.
    """

    def __init__(self, problems: Iterable[Problem], rest: object = None) -> None:
        self.problems = tuple(problems)
        self.rest = rest
        super().__init__("Invalid", "\n".join(str(problem) for problem in self.problems))


class UpdateError(JobError):
    """A client's update is refused; `reason` becomes the client's state reason."""


class StateError(JobError):
    """The state folder cannot be used for this job now."""


class DataError(JobError):
    """A picture, its labels or a folder of them cannot be used as they are."""


class ArtifactError(JobError):
    """An artifact is not there or not what it should be."""


class ArtifactNotFoundError(ArtifactError):
    """No object under this key."""

    def __init__(self, key: str) -> None:
        super().__init__("ArtifactNotFound", f"no artifact under {key!r}")
        self.key = key


class CorruptArtifactError(ArtifactError):
    """The bytes are there but are not the artifact that was promised."""

    def __init__(self, message: str) -> None:
        super().__init__("CorruptArtifact", message)


class TransientError(FedloomError):
    """Something outside was unavailable: try again after `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StoreUnavailableError(TransientError):
    """The object store refused, timed out or answered 5xx."""


class TrackingUnavailableError(TransientError):
    """The tracking server cannot be reached; what was missed is logged later."""
