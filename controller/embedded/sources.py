"""Look for what a job learns from, on this machine: Models, other jobs' folders, files, MLflow's registry."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.credentials import endpoint_of, presigner_of
from controller.embedded.siblings import Sibling, find_sibling
from controller.embedded.state import StateFolder
from controller.permission import allows
from controller.registry import search
from controller.sources import (
    ABSENT,
    NOT_ALLOWED,
    NOT_FOUND,
    READY,
    UNREADABLE,
    Looked,
    Sources,
    gathered,
)
from fedloom.api.documents import Documents
from fedloom.api.job import FederatedLearningJob
from fedloom.api.places import is_remote
from fedloom.api.secret import Secret
from fedloom.api.transfer import ALLOWED_ANNOTATION, Transfer, TransferSource, source_name
from fedloom.errors import FedloomError

_SECONDS = 6 * 3600.0
_PATIENCE_SECONDS = 15.0


@dataclass(frozen=True)
class SourceSearch:
    """Looks for the sources of one job.

    Attributes:
        documents: the job's documents.
        job: with its defaults.
        state: its state folder.
        tracking_uri: of the MLflow whose registry is searched; None for the databases on this machine.
    """

    documents: Documents
    job: FederatedLearningJob
    state: StateFolder
    tracking_uri: str | None

    def look(self) -> Sources:
        """Look at every entry once; nothing is raised for one that is not there."""
        transfer = self.job.spec.transfer
        assert transfer is not None
        found = [self._look(source) for source in transfer.sources if not _is_registry(source)]
        found += self._registered(transfer)
        return gathered(transfer, found, heals=False)

    def _look(self, source: TransferSource) -> Looked:
        name = source_name(source)
        try:
            if source.model is not None:
                return self._model(name, source)
            if source.job is not None:
                return self._job(name, source)
            return self._file(name, source.uri or "", source.credential_name)
        except (FedloomError, OSError) as error:
            return Looked(name, ABSENT, UNREADABLE, str(error))

    def _model(self, name: str, source: TransferSource) -> Looked:
        namespace = source.namespace or self.job.metadata.namespace
        for model in self.documents.models:
            if (model.metadata.namespace, model.metadata.name) == (namespace, source.model):
                allowed = model.metadata.annotations.get(ALLOWED_ANNOTATION, "")
                refusal = allows(allowed, namespace, self.job.metadata.namespace)
                if refusal:
                    return Looked(name, ABSENT, NOT_ALLOWED, refusal)
                return self._file(name, model.spec.url, model.spec.credential_name)
        message = f"there is no Model {source.model!r} of namespace {namespace!r} in the files"
        return Looked(name, ABSENT, NOT_FOUND, message)

    def _job(self, name: str, source: TransferSource) -> Looked:
        namespace, own = source.namespace or self.job.metadata.namespace, self.job.metadata
        other = str(source.job)
        roots = [
            self.state.root.parent / other,
            self.state.root.parent.parent / namespace / other,
            Path(".fedloom").absolute() / namespace / other,
        ]
        found = find_sibling(namespace, other, roots, self._secrets())
        if not isinstance(found, Sibling):
            return Looked(name, found.state, found.reason, found.message)
        refusal = allows(found.allowed, namespace, own.namespace)
        if refusal:
            return Looked(name, ABSENT, NOT_ALLOWED, refusal)
        return found.look(name, self._folder(name), is_start=source.start)

    def _file(self, name: str, url: str, credential: str | None) -> Looked:
        if is_remote(url):
            path = self._downloaded(name, url, credential)
        else:
            path = (self.documents.base_folder / url.removeprefix("file://")).absolute()
        if not path.is_file():
            return Looked(name, ABSENT, NOT_FOUND, f"there is no file {path}")
        candidate = {"name": name, "url": str(path), "uri": url.partition("?")[0]}
        return Looked(name, READY, candidates=(candidate,))

    def _downloaded(self, name: str, url: str, credential: str | None) -> Path:
        from components.download import Downloads  # an HTTP client costs start-up time
        from fedloom.artifacts.retry import RetryPolicy

        signed = None
        s3 = self.job.spec.transmitter.s3 if self.job.spec.transmitter else None
        secret = self._secrets().get(credential or (s3.credential_name if s3 else None) or "")
        if url.startswith("s3://") and secret is not None:
            presigner, key = presigner_of(secret, url, endpoint_of(secret), "us-east-1")
            signed = presigner.get_url(key, _SECONDS)
        downloads = Downloads(self._folder(name), RetryPolicy(total_seconds=_PATIENCE_SECONDS))
        return downloads.fetch(url, signed).path

    def _registered(self, transfer: Transfer) -> list[Looked]:
        wanted = [source for source in transfer.sources if _is_registry(source)]
        if transfer.mode == "auto" and not transfer.sources:
            wanted = [TransferSource()]
        if not wanted:
            return []
        return search(self._registries(), wanted, self._folder("registry"), self.job)

    def _registries(self) -> list[str]:
        """The MLflow that is named, else those in the folders of other jobs beside this one's."""
        if self.tracking_uri is not None:
            return [self.tracking_uri]
        beside = sorted(self.state.root.parent.glob("*/mlflow.db"))
        return [f"sqlite:///{path}" for path in beside if path.parent != self.state.root]

    def _folder(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        return self.state.downloads / f"source-{digest}"

    def _secrets(self) -> Mapping[str, Secret]:
        namespace = self.job.metadata.namespace
        secrets = self.documents.secrets
        return {s.metadata.name: s for s in secrets if s.metadata.namespace == namespace}


def _is_registry(source: TransferSource) -> bool:
    return source.registered_model is not None or source.registry is not None


def lineage_of(beginning: Mapping[str, Any]) -> str:
    """Say in a sentence what a job begins with."""
    return f"{beginning['choice']} ({beginning['reason']}): {beginning['message']}"
