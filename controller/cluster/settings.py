"""The controller's settings: variables of its environment, read once.

FEDLOOM_STORE              s3://bucket/prefix for jobs without spec.transmitter.s3
FEDLOOM_STORE_ENDPOINT     its address, http://host:port or https://host, as the cloud's pods see it
FEDLOOM_EDGE_ENDPOINT      the same store as the edges see it; the former if unset
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION    who reads and writes it
MLFLOW_TRACKING_URI        MLflow; without it rounds are not tracked
FEDLOOM_STEPS_IMAGE        the image of Fedloom's own steps
FEDLOOM_IMAGES             what runs in the place of images that jobs name: see `images`
FEDLOOM_IMAGE_PULL_POLICY  of that image; IfNotPresent if unset
FEDLOOM_SERVICE_ACCOUNT    of the pods of a round; fedloom-worker if unset
FEDLOOM_NAMESPACES         which namespaces to serve, with commas between; all if unset
FEDLOOM_EDGE_STATE_PATH    where clients keep their state on their nodes, if the job does not say;
                           /var/lib/fedloom if unset, empty for nowhere
FEDLOOM_EDGE_RUNTIME       auto, direct or dispatch, for jobs whose spec.edge.runtime is auto; auto if unset
FEDLOOM_LOCAL_CONTROLLER   "true" where every edge has a local controller: Sedna's workers are told of it
FEDLOOM_DEADLINE_GRACE_SECONDS   how long after its deadline a round is closed by force; 15 if unset
FEDLOOM_LOST_NODE_SECONDS  after how long without its node a client is given up; 60 if unset
FEDLOOM_PENDING_TIMEOUT    "true" where Argo is 4.1 or newer: it then ends pods that stay Pending
FEDLOOM_WORKERS            how many jobs are looked at at once; 4 if unset
FEDLOOM_TRACKING_PROCESSES how many jobs are published at once; 4 if unset
FEDLOOM_LISTEN             host:port of /metrics, /healthz and /readyz; :8080 if unset
FEDLOOM_LINK_LISTEN        with local controllers: host:port where they reach the controller; :8443 if unset
FEDLOOM_LINK_NAMESPACE     where they run; fedloom-edge if unset
FEDLOOM_LINK_ACCOUNT       their service account; fedloom-local-controller if unset
FEDLOOM_LINK_CERTIFICATE_SECONDS  how long a node's certificate is valid; 604800, a week, if unset
FEDLOOM_WORK               a folder for what may be lost; a temporary one if unset
FEDLOOM_ENGINE             argo or kfp: what runs jobs whose spec.engine says nothing; argo if unset
FEDLOOM_KFP_...            Kubeflow Pipelines: see `kfp_settings`
POD_NAMESPACE, POD_NAME    where the Lease is and who holds it; default and the host's name if unset
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controller.cluster.kfp_settings import KfpSettings, read_kfp_settings
from controller.images import Images, read_images
from fedloom.artifacts.credentials import S3Credentials
from fedloom.errors import InvalidJobError, Problem


@dataclass(frozen=True)
class StoreSettings:
    """The store of jobs that name none; `uri` without the jobs' own prefixes."""

    uri: str
    endpoint: str
    edge_endpoint: str
    region: str
    credentials: S3Credentials


@dataclass(frozen=True)
class LinkSettings:
    """Where local controllers reach the controller, and who they are."""

    listen: tuple[str, int]
    namespace: str
    account: str
    certificate_seconds: float


@dataclass(frozen=True)
class Settings:
    """See the module."""

    store: StoreSettings | None
    tracking_uri: str | None
    steps_image: str
    image_pull_policy: str
    service_account: str
    dispatcher_image: str
    dispatcher_account: str
    namespaces: tuple[str, ...]
    edge_state_path: str | None
    deadline_grace_seconds: float
    lost_node_seconds: float
    has_pending_timeout: bool
    workers: int
    tracking_processes: int
    listen: tuple[str, int]
    work: Path
    own_namespace: str
    identity: str
    edge_runtime: str = "auto"
    has_local_controller: bool = False
    link: LinkSettings | None = None
    clients_per_workflow: int = 4_000
    images: Images = field(default_factory=dict)
    engine: str = "argo"
    kfp: KfpSettings | None = None


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises InvalidJobError with every problem, each at its variable."""
    reading = _Reading(environ)
    host, _, port = environ.get("FEDLOOM_LISTEN", ":8080").rpartition(":")
    settings = Settings(
        store=reading.store(),
        tracking_uri=environ.get("MLFLOW_TRACKING_URI") or None,
        steps_image=reading.required("FEDLOOM_STEPS_IMAGE"),
        image_pull_policy=environ.get("FEDLOOM_IMAGE_PULL_POLICY", "IfNotPresent"),
        service_account=environ.get("FEDLOOM_SERVICE_ACCOUNT", "fedloom-worker"),
        dispatcher_image=environ.get("FEDLOOM_CONTROLLER_IMAGE", ""),
        dispatcher_account=environ.get("FEDLOOM_DISPATCHER_ACCOUNT", "fedloom-dispatcher"),
        namespaces=tuple(
            filter(None, map(str.strip, environ.get("FEDLOOM_NAMESPACES", "").split(",")))
        ),
        edge_state_path=environ.get("FEDLOOM_EDGE_STATE_PATH", "/var/lib/fedloom") or None,
        deadline_grace_seconds=reading.number("FEDLOOM_DEADLINE_GRACE_SECONDS", 15.0),
        lost_node_seconds=reading.number("FEDLOOM_LOST_NODE_SECONDS", 60.0),
        has_pending_timeout=environ.get("FEDLOOM_PENDING_TIMEOUT", "").lower() == "true",
        workers=max(1, int(reading.number("FEDLOOM_WORKERS", 4))),
        tracking_processes=max(1, int(reading.number("FEDLOOM_TRACKING_PROCESSES", 4))),
        listen=(host, int(reading.number_of("FEDLOOM_LISTEN", port))),
        work=Path(environ.get("FEDLOOM_WORK") or tempfile.mkdtemp(prefix="fedloom-")),
        own_namespace=environ.get("POD_NAMESPACE", "default"),
        identity=f"{environ.get('POD_NAME') or socket.gethostname()}-{os.urandom(4).hex()}",
        edge_runtime=reading.choice("FEDLOOM_EDGE_RUNTIME", ("auto", "direct", "dispatch")),
        has_local_controller=environ.get("FEDLOOM_LOCAL_CONTROLLER", "").lower() == "true",
        link=reading.link(),
        clients_per_workflow=max(1, int(reading.number("FEDLOOM_CLIENTS_PER_WORKFLOW", 4_000))),
        images=reading.images(),
        engine=reading.choice("FEDLOOM_ENGINE", ("argo", "kfp")),
        kfp=read_kfp_settings(environ, reading.problems),
    )
    if reading.problems:
        raise InvalidJobError(reading.problems)
    return settings


class _Reading:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[Problem] = []

    def required(self, name: str) -> str:
        value = self._environ.get(name, "")
        if not value:
            self.problems.append(Problem(name, "got nothing, expected a value"))
        return value

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        value = self._environ.get(name) or known[0]
        if value not in known:
            message = f"got {value!r}, expected one of {', '.join(known)}"
            self.problems.append(Problem(name, message))
        return value

    def number(self, name: str, default: float) -> float:
        text = self._environ.get(name, "")
        return self.number_of(name, text) if text else default

    def number_of(self, name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e9:
            self.problems.append(Problem(name, f"got {text!r}, expected a number from 0"))
            return 0.0
        return value

    def images(self) -> Images:
        try:
            return read_images(self._environ.get("FEDLOOM_IMAGES", ""))
        except ValueError as error:
            self.problems.append(Problem("FEDLOOM_IMAGES", str(error)))
            return {}

    def link(self) -> LinkSettings | None:
        if self._environ.get("FEDLOOM_LOCAL_CONTROLLER", "").lower() != "true":
            return None
        name = "FEDLOOM_LINK_LISTEN"
        host, _, port = (self._environ.get(name) or ":8443").rpartition(":")
        return LinkSettings(
            listen=(host, int(self.number_of(name, port))),
            namespace=self._environ.get("FEDLOOM_LINK_NAMESPACE") or "fedloom-edge",
            account=self._environ.get("FEDLOOM_LINK_ACCOUNT") or "fedloom-local-controller",
            certificate_seconds=self.number("FEDLOOM_LINK_CERTIFICATE_SECONDS", 604_800.0),
        )

    def store(self) -> StoreSettings | None:
        uri = self._environ.get("FEDLOOM_STORE", "").rstrip("/")
        if not uri:
            return None
        if not uri.startswith("s3://") or not uri.removeprefix("s3://").strip("/"):
            message = f"got {uri!r}, expected s3://bucket/prefix"
            self.problems.append(Problem("FEDLOOM_STORE", message))
        endpoint = self.required("FEDLOOM_STORE_ENDPOINT")
        return StoreSettings(
            uri=uri,
            endpoint=endpoint,
            edge_endpoint=self._environ.get("FEDLOOM_EDGE_ENDPOINT") or endpoint,
            region=region_of(self._environ),
            credentials=S3Credentials(
                self.required("AWS_ACCESS_KEY_ID"),
                self.required("AWS_SECRET_ACCESS_KEY"),
                self._environ.get("AWS_SESSION_TOKEN") or None,
            ),
        )


def region_of(environ: Mapping[str, str] = os.environ) -> str:
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
