"""Checks of what Fedloom itself has in the cluster: the controller, its Lease and its settings."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cli.cluster.diagnosis.cluster import DEPLOYMENTS, images_of
from cli.cluster.diagnosis.finding import OK, PROBLEM, UNKNOWN, Finding, Scope
from controller.cluster.answers import ForbiddenError
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.main import LEASE
from controller.cluster.nodes import seconds_of
from controller.cluster.resources import LEASES, SECRETS, Resource
from controller.cluster.settings import read_settings
from fedloom import __version__
from fedloom.errors import InvalidJobError

CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap")
NAME = "fedloom-controller"

_LEASE_SECONDS = 60.0
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class House:
    """What was found of the installation.

    Attributes:
        variables: the controller's settings, Secrets' among them only where they may be read.
        has_keys: whether the store's keys are among them.
        account: the controller's ServiceAccount.
    """

    deployment: Document | None = None
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    has_keys: bool = False
    account: str = NAME


def look_at_house(server: Cluster, scope: Scope) -> House:
    """Read the controller's Deployment and what its variables come from."""
    deployment = server.get(DEPLOYMENTS, scope.system_namespace, NAME)
    if deployment is None:
        return House()
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    variables: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        variables |= _variables(server, scope.system_namespace, source)
    for entry in container.get("env") or ():
        if "value" in entry:
            variables[entry["name"]] = str(entry["value"])
    has_keys = all(variables.get(key) for key in _KEYS)
    return House(deployment, variables, has_keys, pod.get("serviceAccountName") or "default")


def controller_findings(
    server: Cluster, scope: Scope, house: House, now: float
) -> Iterator[Finding]:
    """Whether a controller runs, of this version, and leads."""
    where, deployment = f"{scope.system_namespace}/{NAME}", house.deployment
    if deployment is None:
        advice = "kubectl apply -k manifests/overlays/quickstart; or --system-namespace"
        yield Finding("controller", PROBLEM, f"there is no Deployment {where}", advice)
        return
    ready = (deployment.get("status") or {}).get("readyReplicas") or 0
    wanted = deployment["spec"].get("replicas", 1)
    if not ready:
        advice = f"kubectl -n {scope.system_namespace} logs deployment/{NAME}"
        if not wanted:
            advice = f"kubectl -n {scope.system_namespace} scale deployment/{NAME} --replicas 1"
        message = f"{where}: 0 of {wanted} replicas are ready"
        yield Finding("controller", PROBLEM, message, advice)
    else:
        image = images_of(deployment)[0]
        yield Finding(
            "controller", OK, f"{where}: {ready} of {wanted} replicas are ready ({image})"
        )
        if ":" in image and __version__ not in image.rpartition(":")[2]:
            message = f"the controller is {image}, this command is {__version__}"
            yield Finding("controller", UNKNOWN, message, "use the same version of both")
    yield _leader_finding(server.get(LEASES, scope.system_namespace, LEASE), now)


def settings_findings(house: House) -> Iterator[Finding]:
    """Whether the controller's settings are complete and can be read."""
    if house.deployment is None:
        return
    variables = dict(house.variables)
    if not house.has_keys:
        variables |= dict.fromkeys(_KEYS, "unknown")
    try:
        settings = read_settings(variables | {"FEDLOOM_WORK": "unused"})
    except InvalidJobError as error:
        for problem in error.problems:
            advice = f"ConfigMap {NAME} and the Secret fedloom-store"
            yield Finding("settings", PROBLEM, str(problem), advice)
        return
    if settings.store is None:
        message = "the controller has no store of its own: every job needs spec.transmitter.s3"
        yield Finding("settings", UNKNOWN, message, "FEDLOOM_STORE=s3://bucket/prefix")
    else:
        store = settings.store
        message = f"store {store.uri} at {store.endpoint}, for edges at {store.edge_endpoint}"
        yield Finding("settings", OK, message)
    if house.has_keys or settings.store is None:
        return
    message = f"the store's keys ({', '.join(_KEYS)}) are not there or you may not read them"
    yield Finding(
        "settings", UNKNOWN, message, "kubectl -n fedloom-system get secret fedloom-store"
    )


def _leader_finding(lease: Document | None, now: float) -> Finding:
    advice = "the controller's log says what keeps it from the Lease"
    spec: Mapping[str, Any] = (lease or {}).get("spec") or {}
    holder, renewed = spec.get("holderIdentity"), seconds_of(spec.get("renewTime"))
    if not holder or renewed is None:
        return Finding("controller", PROBLEM, f"nobody holds the Lease {LEASE}", advice)
    age = now - renewed
    if age > _LEASE_SECONDS:
        message = f"{holder} holds the Lease and has not renewed it for {age:.0f} s"
        return Finding("controller", PROBLEM, message, advice)
    return Finding("controller", OK, f"{holder} leads")


def _variables(server: Cluster, namespace: str, source: Mapping[str, Any]) -> dict[str, str]:
    """The variables of one entry of envFrom; none where they may not be read."""
    if "configMapRef" in source:
        found = server.get(CONFIG_MAPS, namespace, source["configMapRef"]["name"])
        return {key: str(value) for key, value in ((found or {}).get("data") or {}).items()}
    if "secretRef" not in source:
        return {}
    try:
        found = server.get(SECRETS, namespace, source["secretRef"]["name"])
    except ForbiddenError:
        return {}
    data = (found or {}).get("data") or {}
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}
