"""Looks at the Datasets of this node now and then, and says how many samples they have when that changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from controller.edge.samples import Samples
from controller.edge.storage import Storage
from controller.link.bodies import DATASETS
from fedloom.errors import JobError

log = logging.getLogger("fedloom.controller")


class Counting:
    """Counts what changed; `look` is called by one thread."""

    def __init__(self, storage: Storage, samples: Samples, node: str) -> None:
        self._storage = storage
        self._samples = samples
        self._node = node
        self._troubles: dict[tuple[str, str], str] = {}
        self._is_asked = False

    def say_again(self) -> None:
        """The cloud began anew: have it know what is counted here, changed or not."""
        self._is_asked = True

    def look(self) -> None:
        """Look at every Dataset once."""
        if self._is_asked:
            self._is_asked = False
            self._say_all()
        for document in self._storage.all(DATASETS):
            meta, spec = document["metadata"], document["spec"]
            if spec.get("nodeName") == self._node and "://" not in spec["url"]:
                self._look_at((meta["namespace"], meta["name"]), str(meta.get("uid", "")), spec)

    def _look_at(self, key: tuple[str, str], uid: str, spec: Mapping[str, Any]) -> None:
        kind = spec["format"].lower()
        try:
            path = self._samples.locate(spec["url"])
            fingerprint = f"{uid} {self._samples.fingerprint(path, kind)}"
            known = self._storage.count(*key)
            if known is not None and known[0] == fingerprint:
                return
            count = self._samples.count(path, kind)
        except (JobError, OSError) as error:
            self._note(key, str(error))
            return
        self._note(key, "")
        if known is None or known[1] != count or not known[0].startswith(f"{uid} "):
            self._say(key, uid, count)
        self._storage.set_count(*key, fingerprint, count)

    def _say_all(self) -> None:
        for document in self._storage.all(DATASETS):
            meta = document["metadata"]
            key, uid = (meta["namespace"], meta["name"]), str(meta.get("uid", ""))
            known = self._storage.count(*key)
            if known is not None and known[0].startswith(f"{uid} "):
                self._say(key, uid, known[1])

    def _say(self, key: tuple[str, str], uid: str, count: int) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds")  # no two are the same words
        namespace, name = (quote(part, safe="") for part in key)
        subject = f"{DATASETS}/{key[0]}/{key[1]}/{uid}"
        body = {"numberOfSamples": count, "updateTime": now}
        self._storage.say(subject, f"/{namespace}/{DATASETS}/{name}/status", body)

    def _note(self, key: tuple[str, str], trouble: str) -> None:
        """Say what is wrong once, not at every look."""
        if trouble and self._troubles.get(key) != trouble:
            log.warning("Dataset %s is not counted: %s", "/".join(key), trouble)
        self._troubles[key] = trouble
