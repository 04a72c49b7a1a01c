"""What is known of a run once its folder has been read: plain values, nothing to do with HTML."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Job:
    """Whose run it is and how it was set up, as far as its state folder tells."""

    namespace: str
    name: str
    uid: str
    created: float | None
    rounds: int
    clients: int
    algorithm: str
    uplink: str
    downlink: str
    clients_per_round: int | None
    min_clients: int | None


@dataclass(frozen=True)
class Round:
    """A committed round. `metrics` holds None for a value that is no finite number.

    `finished` is in unix seconds; None is what the result does not say.
    """

    number: int
    attempt: int
    finished: float | None
    seconds: float | None
    metrics: Mapping[str, float | None]
    uplink_bytes: int
    downlink_bytes: int


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt at a round that gave no model."""

    round: int
    attempt: int
    finished: float | None
    reason: str
    message: str


@dataclass(frozen=True)
class GlobalModel:
    """The model after the last round; `parameters` is None where its file cannot be read."""

    uri: str
    digest: str
    size_bytes: int | None
    parameters: int | None


@dataclass
class ClientFigures:
    """One client over the rounds that were looked into; filled from the last round backwards.

    `examples` and `node` are the latest known; `seconds` and `uplink_bytes` are sums.
    """

    name: str
    node: str | None = None
    examples: int | None = None
    succeeded: int = 0
    timed: int = 0
    seconds: float = 0.0
    uplink_bytes: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def mean_seconds(self) -> float | None:
        return self.seconds / self.timed if self.timed else None

    @property
    def failed(self) -> int:
        return self.failures.total()


@dataclass
class FailureFigures:
    """Clients' failures of one reason; client, round and message of the latest stand for all."""

    reason: str
    count: int = 0
    clients: set[str] = field(default_factory=set)
    example: tuple[int, str, str] = (0, "", "")


@dataclass(frozen=True)
class Span:
    """One step on one lane (a client's name, None for the server), unix seconds."""

    lane: str | None
    step: str
    start: float
    end: float


@dataclass(frozen=True)
class RoundSteps:
    """The steps of one round."""

    number: int
    started: float
    finished: float
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Turnout:
    """How many clients of one round succeeded and failed, and how many updates were sent up."""

    round: int
    succeeded: int
    failed: int
    updates: int
    uplink_bytes: int
    downlinks: int
    downlink_bytes: int


@dataclass
class Details:
    """What the clients say: from the last rounds only where there is too much of it."""

    rounds: int = 0
    clients: dict[str, ClientFigures] = field(default_factory=dict)
    failures: dict[str, FailureFigures] = field(default_factory=dict)
    turnout: deque[Turnout] = field(default_factory=deque)
    steps: list[RoundSteps] = field(default_factory=list)


@dataclass(frozen=True)
class Tracking:
    """Where MLflow is: `uri` without credentials, None where the folder does not tell."""

    run_id: str | None
    uri: str | None
    recorded_through: int


@dataclass(frozen=True)
class Run:
    """Everything about one run.

    Attributes:
        phase, reason, message: how the job stands, in the controller's words.
        rounds: every committed round, ascending; `attempts`: those that failed.
        damage: what of the folder could not be read, in sentences.
        place: where its artifacts lie.
        privacy: what the last round promised, in words; empty for a job without privacy.
        beginning: what a job that learns from others begins with; empty for others.
    """

    job: Job
    phase: str
    reason: str
    message: str
    rounds: tuple[Round, ...]
    attempts: tuple[FailedAttempt, ...]
    details: Details
    model: GlobalModel | None
    tracking: Tracking | None
    damage: tuple[str, ...]
    place: str
    privacy: str = ""
    beginning: Mapping[str, Any] = field(default_factory=dict)
