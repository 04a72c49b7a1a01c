"""How long a client's pod may take, for whoever starts or follows it."""

from __future__ import annotations

from fedloom.api.compatibility import WEBSOCKET, compatibility_of
from fedloom.api.job import FederatedLearningJob

LEAVE_SECONDS = 60.0
"""How long a websocket aggregator waits for its clients to take the last weights and leave."""


def client_deadline_seconds(job: FederatedLearningJob) -> float:
    """Give how long a client's pod may take: under compat: websocket all inner rounds, a deadline each."""
    seconds = job.spec.participation.deadline_seconds
    if compatibility_of(job.spec) != WEBSOCKET:
        return seconds
    return seconds * (job.spec.rounds or 1) + LEAVE_SECONDS
