"""What became of the inner rounds of an attempt, in the job's store:

    round-0001/inner/<attempt>/0003/model.safetensors, round.json

The record `round.json` is written last: it exists = the inner round is done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from components.request import Request
from components.updates import Reports
from components.websocket_gathering import Answer
from fedloom.artifacts.layout import inner_key
from fedloom.artifacts.store import Store
from fedloom.errors import ArtifactNotFoundError


class InnerRecords:
    """The records of one attempt, read once; `all` in order."""

    def __init__(self, request: Request, store: Store) -> None:
        self._request = request
        self._store = store
        self.all: list[dict[str, Any]] = []
        while (record := self._read(len(self.all) + 1)) is not None:
            self.all.append(record)

    def add(self, facts: Mapping[str, Any], accepted: Mapping[str, Answer]) -> None:
        """Write down the next inner round: `downlink_bytes` of each client, its model, and the like."""
        facts = dict(facts)
        downlink_bytes = facts.pop("downlink_bytes")
        clients = {
            client: {
                "num_examples": answer.num_examples,
                "seconds": round(answer.seconds, 6),
                "uplink_bytes": answer.uplink_bytes,
                "downlink_bytes": downlink_bytes,
                "digest": answer.digest,
            }
            for client, answer in accepted.items()
        }
        record = {"inner": len(self.all) + 1, **facts, "clients": clients}
        data = json.dumps(record, sort_keys=True).encode()
        self._store.put(self.key(len(self.all) + 1, "round.json"), data, replace=True)
        self.all.append(record)

    def reports(self, nodes: Mapping[str, str]) -> Reports:
        """Say of each client, over all inner rounds, what its own report would say of a round."""
        names = sorted({name for each in self.all for name in each["clients"]})
        return {name: self._report(name, nodes.get(name)) for name in names}

    def key(self, number: int, name: str) -> str:
        """Give the key of what an inner round leaves."""
        return inner_key(self._request.round, self._request.attempt, number, name)

    def _report(self, client: str, node: str | None) -> dict[str, Any]:
        rounds = [each["clients"][client] for each in self.all if client in each["clients"]]
        return {
            "num_examples": rounds[-1]["num_examples"],
            "num_steps": None,
            "seconds": round(sum(each["seconds"] for each in rounds), 6),
            "uplink_bytes": sum(each["uplink_bytes"] for each in rounds),
            "downlink_bytes": sum(each["downlink_bytes"] for each in rounds),
            "metrics": {},
            "update": {"digest": rounds[-1]["digest"]},
            "node": node,
            "steps": {},
        }

    def _read(self, number: int) -> dict[str, Any] | None:
        try:
            data = self._store.get(self.key(number, "round.json"))
        except ArtifactNotFoundError:
            return None
        record: dict[str, Any] = json.loads(data)
        return record
