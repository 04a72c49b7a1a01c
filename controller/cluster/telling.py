"""What is said of each committed round: Events, counters, and the status of its Datasets and its Model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.cluster.edges.reports import Reports
from controller.cluster.events import NORMAL, WARNING, Recorder
from controller.cluster.exposition import Metrics
from controller.cluster.feedback import tell_datasets, tell_model
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.resolve import Objects
from controller.described import NOT_DESCRIBED, description_notice
from fedloom.api.job import FederatedLearningJob

_EVENTS_A_ROUND = 5


class Teller:
    """Tells of rounds."""

    def __init__(
        self,
        cluster: Cluster,
        objects: Objects,
        recorder: Recorder,
        metrics: Metrics,
        reports: Reports,
    ) -> None:
        self._cluster = cluster
        self._objects = objects
        self._recorder = recorder
        self._metrics = metrics
        self._reports = reports

    def tell(
        self,
        document: Document,
        job: FederatedLearningJob,
        results: Sequence[Mapping[str, Any]],
        *,
        is_old: bool,
    ) -> None:
        """Tell of committed rounds; where they may be old news, only the other objects."""
        for result in results:
            tell_datasets(self._cluster, self._objects, job, result, self._reports.is_counted)
            tell_model(self._cluster, self._objects, job, result)
        for result in () if is_old else results:
            self._count(result)
            self._note(document, result)

    def _count(self, result: Mapping[str, Any]) -> None:
        metrics, traffic = self._metrics, result["traffic"]
        metrics.add("fedloom_rounds_total")
        metrics.observe("fedloom_round_seconds", float(result["seconds"]))
        metrics.add("fedloom_uplink_bytes_total", float(traffic["uplink_bytes"]))
        metrics.add("fedloom_downlink_bytes_total", float(traffic["downlink_bytes"]))
        for client in result["clients"].values():
            if client["state"] != "Succeeded":
                metrics.add("fedloom_clients_dropped_total", reason=str(client["reason"]))

    def _note(self, document: Document, result: Mapping[str, Any]) -> None:
        number, clients = result["round"], result["clients"]
        bad = {name: c for name, c in clients.items() if c["state"] != "Succeeded"}
        measured = ", ".join(f"{name} {value:.4g}" for name, value in result["metrics"].items())
        note = f"round {number} of {result['rounds']}: {len(clients) - len(bad)} updates"
        note += f", {result['seconds']:.1f} s" + (f", {measured}" if measured else "")
        self._recorder.tell(document, NORMAL, "RoundCommitted", note)
        if "description" in result:
            reason, message = description_notice(result["description"])
            kind = WARNING if reason == NOT_DESCRIBED else NORMAL
            self._recorder.tell(document, kind, reason, message)
        if "transfer" in result:
            begun = result["transfer"]
            kind = NORMAL if begun["is_sure"] else WARNING
            message = f"begins with {begun['choice']}: {begun['reason']}: {begun['message']}"
            self._recorder.tell(document, kind, "TransferChosen", message)
        for name, client in list(bad.items())[:_EVENTS_A_ROUND]:
            message = f"round {number}, client {name}: {client['reason']}: {client['message']}"
            self._recorder.tell(document, WARNING, "ClientDropped", message)
