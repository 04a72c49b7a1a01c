"""What the Argo engine must know beside the plan: accounts, images, the store, who is the owner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedloom.api.secret import ACCESS_KEY, SECRET_KEY


@dataclass(frozen=True)
class Owner:
    """The object that a round's objects belong to; they vanish with it."""

    api_version: str
    kind: str
    name: str
    uid: str

    def reference(self, *, is_controller: bool = True) -> dict[str, Any]:
        """Give the entry of `ownerReferences`."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": is_controller,
            "blockOwnerDeletion": True,
        }


@dataclass(frozen=True)
class Setting:
    """How the rounds of one job are run in a cluster.

    Attributes:
        namespace: of the job; everything is made there.
        owner: the job.
        service_account: of the pods; it reports task results to Argo.
        steps_image: holds `components`.
        store_uri: the job's own store as the cloud sees it, `s3://bucket/prefix/<job prefix>`.
        store_endpoint: of S3, as the cloud sees it; empty for Amazon's.
        store_region: of S3.
        image_pull_policy: of our own images.
        edge_state_path: the folder of a node below which clients keep their state (spec.edge.state);
            None for state that ends with the pod.
        deadline_grace_seconds: what a client's pod gets beside the deadline of its training, to
            start and to send.
        server_grace_seconds: what a pod in the cloud gets beside the deadline of the user's code in it.
        pending_timeout: whether Argo knows `pendingTimeout` (4.1 and later).
        dispatched: the clients whose node cannot reach the API server; the others run directly.
        dispatcher_image: holds `controller.dispatcher`.
        dispatcher_account: of the dispatcher; it makes Jobs.
        server_template: the pod template of the aggregation worker, where there is one.
        transmitter_endpoint: of the S3 that spec.transmitter names, where its Secret is known.
        transmitter_edge_endpoint: the same as the edges see it; empty where it is no other.
        transmitter_keys: the entries of that Secret with the two keys.
        has_local_controller: whether every edge has a local controller.
        clients_per_workflow: a round of more clients is cut into several Workflows.
        success_seconds, failure_seconds: how long a workflow is kept after its end.
    """

    namespace: str
    owner: Owner
    service_account: str
    steps_image: str
    store_uri: str
    store_endpoint: str = ""
    store_region: str = "us-east-1"
    image_pull_policy: str = "IfNotPresent"
    edge_state_path: str | None = None
    deadline_grace_seconds: float = 60.0
    server_grace_seconds: float = 3_600.0
    pending_timeout: bool = False
    dispatched: frozenset[str] = frozenset()
    dispatcher_image: str = ""
    dispatcher_account: str = ""
    server_template: Mapping[str, Any] = field(default_factory=dict)
    transmitter_endpoint: str = ""
    transmitter_edge_endpoint: str = ""
    transmitter_keys: tuple[str, str] = (ACCESS_KEY, SECRET_KEY)
    has_local_controller: bool = False
    clients_per_workflow: int = 4_000
    success_seconds: int = 3_600
    failure_seconds: int = 86_400
