"""What one job on a cluster has found of its sources: objects by themselves, MLflow's registry by a process.

The process runs beside: a look at the job never waits for it. What it brings that lies nowhere else goes
into the job's own store, from where the cloud's pods have it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.cluster.sources import is_registered
from controller.registry import search
from controller.sources import ABSENT, REGISTRY_DOWN, Looked, Sources, gathered
from fedloom.api.job import FederatedLearningJob
from fedloom.api.transfer import TransferSource
from fedloom.artifacts import layout
from fedloom.artifacts.artifact import digest_of_file
from fedloom.artifacts.store import Store
from fedloom.errors import FedloomError

Search = Callable[
    [Sequence[str], Sequence[TransferSource], Path, FederatedLearningJob], list[Looked]
]
LOOK_SECONDS = 2.0
"""How soon to look again while the registry is asked."""


class JobSources:
    """Knows the sources of one job; for one thread at a time.

    Args:
        tracking_uri: of MLflow; None where there is none.
        work: a folder for what may be lost.
        store: the job's own.
        look_up: asks the registry.
    """

    def __init__(
        self, tracking_uri: str | None, work: Path, store: Store, look_up: Search = search
    ) -> None:
        self._tracking_uri = tracking_uri
        self._work = work
        self._store = store
        self._look_up = look_up
        self._thread: threading.Thread | None = None
        self._answers: list[Looked] | None = None

    def look(self, job: FederatedLearningJob, looked: Sequence[Looked]) -> Sources | None:
        """Give what the job can begin with; None while the registry is still asked."""
        transfer = job.spec.transfer
        assert transfer is not None
        wanted = [source for source in transfer.sources if is_registered(source)]
        if transfer.mode == "auto" and not transfer.sources:
            wanted = [TransferSource()]
        answers: list[Looked] = []
        if wanted:
            found = self._registered(job, wanted)
            if found is None:
                return None
            answers = found
        sources = gathered(transfer, [*looked, *answers], heals=True)
        if sources.waiting is not None:
            self._answers = None  # asked again at the next look
        return sources

    def _registered(
        self, job: FederatedLearningJob, wanted: list[TransferSource]
    ) -> list[Looked] | None:
        if self._tracking_uri is None:
            message = "the controller has no MLFLOW_TRACKING_URI: there is no registry to ask"
            return [Looked("registry", ABSENT, REGISTRY_DOWN, message)]
        if self._answers is not None:
            return self._answers
        if self._thread is None:
            self._thread = threading.Thread(target=self._ask, args=(job, wanted), daemon=True)
            self._thread.start()
        return None

    def _ask(self, job: FederatedLearningJob, wanted: list[TransferSource]) -> None:
        assert self._tracking_uri is not None
        folder = self._work / "sources" / job.metadata.uid
        answers = self._look_up([self._tracking_uri], wanted, folder, job)
        self._answers = [self._brought(each) for each in answers]
        self._thread = None

    def _brought(self, looked: Looked) -> Looked:
        """Put what is on this machine's disk into the job's store."""
        try:
            found = tuple(self._stored(each) for each in looked.candidates)
        except (FedloomError, OSError) as error:
            return Looked(looked.name, ABSENT, REGISTRY_DOWN, f"it could not be stored: {error}")
        return Looked(looked.name, looked.state, looked.reason, looked.message, found)

    def _stored(self, candidate: Mapping[str, Any]) -> Mapping[str, Any]:
        url = str(candidate["url"])
        if "://" in url:
            return candidate
        digest = digest_of_file(Path(url))
        key = layout.state_key(f"found-{digest[7:23]}", 0)
        self._store.put_file(key, Path(url), replace=True)
        rest = {name: value for name, value in candidate.items() if name != "url"}
        return {**rest, "key": key, "digest": digest}
