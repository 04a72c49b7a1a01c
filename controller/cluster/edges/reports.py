"""What workers said of themselves, until the status says it too. In memory: the edge keeps what is not told.

The newest report of each worker of a job is kept; newer is what has the higher round, then what came later.
`told` is called once a status with everything up to a ticket is written, and only then is the edge answered.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

Key = tuple[str, str]


@dataclass(frozen=True)
class WorkerReport:
    """One worker's newest report; `client` is empty where the worker did not say its name."""

    client: str
    node: str
    round: int
    status: str = ""
    time: str = ""
    samples: int | None = None
    metrics: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _OfJob:
    uid: str
    ticket: int = 0
    told: int = 0
    reports: dict[tuple[str, str], WorkerReport] = field(default_factory=dict)


class Reports:
    """See the module; safe to use from any thread."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._jobs: dict[Key, _OfJob] = {}
        self._counted: set[Key] = set()

    def newest_round(self, job: Key, uid: str, who: tuple[str, str]) -> int:
        """The round of the newest report of (node, client); 0 without one."""
        with self._condition:
            known = self._known(job, uid)
            found = known.reports.get(who) if known is not None else None
            return found.round if found is not None else 0

    def take(self, job: Key, uid: str, report: WorkerReport) -> int:
        """Keep a report; give the ticket to wait for."""
        with self._condition:
            known = self._known(job, uid)
            if known is None:
                known = self._jobs[job] = _OfJob(uid)
            known.ticket += 1
            known.reports.pop((report.node, report.client), None)
            known.reports[report.node, report.client] = report
            return known.ticket

    def of(self, job: Key, uid: str) -> tuple[tuple[WorkerReport, ...], int]:
        """Reports of a job, in the order of their coming, and the ticket that they are up to."""
        with self._condition:
            known = self._known(job, uid)
            if known is None:
                return (), 0
            return tuple(known.reports.values()), known.ticket

    def told(self, job: Key, uid: str, ticket: int) -> None:
        """The job's status says everything up to this ticket."""
        with self._condition:
            known = self._known(job, uid)
            if known is not None and ticket > known.told:
                known.told = ticket
                self._condition.notify_all()

    def wait(self, job: Key, uid: str, ticket: int, seconds: float) -> bool:
        """Wait until it is told; False where that does not come in time, or the job has gone."""

        def is_over() -> bool:
            known = self._known(job, uid)
            return known is None or known.told >= ticket

        with self._condition:
            return self._condition.wait_for(is_over, seconds) and bool(self._known(job, uid))

    def forget(self, job: Key) -> None:
        """The job is gone."""
        with self._condition:
            self._jobs.pop(job, None)
            self._condition.notify_all()

    def note_count(self, dataset: Key) -> None:
        """A node counts this Dataset itself."""
        with self._condition:
            self._counted.add(dataset)

    def is_counted(self, dataset: Key) -> bool:
        """Whether its node counts a Dataset: then what rounds trained on is not its size."""
        with self._condition:
            return dataset in self._counted

    def _known(self, job: Key, uid: str) -> _OfJob | None:
        known = self._jobs.get(job)
        return known if known is not None and known.uid == uid else None
