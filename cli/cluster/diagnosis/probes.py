"""Checks from inside: short pods that ask the store and MLflow, where the edges and the controller are."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cli.cluster.diagnosis.cluster import EDGE_LABEL
from cli.cluster.diagnosis.finding import PROBLEM, UNKNOWN, Finding
from cli.cluster.diagnosis.verdicts import Answer
from controller.cluster.answers import RefusedError
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.pods import kept_of_pod
from controller.cluster.resources import PODS
from fedloom.errors import FedloomError
from pipelines.engines.argo_clients import FAILED, SUCCEEDED, pod_status

_MOST_SECONDS = 60.0
_LOOK_SECONDS = 0.5
_LABELS = {"app.kubernetes.io/name": "fedloom", "app.kubernetes.io/component": "doctor"}
_NO_START = ("ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "Unschedulable")

# Runs in the pod: asks each URL once and leaves the answers where the kubelet picks them up.
_SCRIPT = """
import json, os, time, urllib.error, urllib.request
answers = {}
for name, url in json.loads(os.environ["FEDLOOM_URLS"]).items():
    began, answer = time.monotonic(), {}
    try:
        with urllib.request.urlopen(url, timeout=8) as response:
            answer = {"code": response.status, "body": response.read(300).decode(errors="replace")}
    except urllib.error.HTTPError as error:
        answer = {"code": error.code, "body": error.read(300).decode(errors="replace")}
    except Exception as error:
        answer = {"code": None, "error": str(getattr(error, "reason", error))[:200]}
    answers[name] = answer | {"seconds": round(time.monotonic() - began, 3)}
with open("/dev/termination-log", "w") as file:
    json.dump(answers, file)
"""


@dataclass(frozen=True)
class Probe:
    """A pod to start: on which node (None: any that is no edge), and which URLs it asks, by name."""

    where: str
    namespace: str
    node: str | None
    urls: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """What came of a probe: answers by name, or what kept it from running."""

    probe: Probe
    answers: Mapping[str, Answer]
    finding: Finding | None = None


def run_probes(server: Cluster, image: str, probes: Iterable[Probe]) -> Iterator[Report]:
    """Start all probes at once, give each report, and take the pods away whatever happens."""
    pods: dict[str, Probe] = {}
    try:
        for probe in probes:
            document = pod_of(probe, image)
            try:
                server.create(PODS, document)
            except FedloomError as error:
                yield Report(probe, {}, _not_started(probe, error))
                continue
            pods[document["metadata"]["name"]] = probe
        yield from _reports(server, dict(pods))
    finally:
        for name, probe in pods.items():
            try:
                server.delete(PODS, probe.namespace, name, 0)
            except FedloomError:
                continue  # its deadline ends it; nothing else can be done about it here


def pod_of(probe: Probe, image: str) -> Document:
    """Give the pod: it may do nothing, holds no token and lives a minute at most."""
    name = f"fedloom-doctor-{secrets.token_hex(4)}"
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(_MOST_SECONDS),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "doctor",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["python", "-I", "-c", _SCRIPT],
                "env": [{"name": "FEDLOOM_URLS", "value": json.dumps(dict(probe.urls))}],
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }
    if probe.node is not None:
        spec |= {"nodeName": probe.node, "tolerations": [{"operator": "Exists"}]}
    else:
        term = {"matchExpressions": [{"key": EDGE_LABEL, "operator": "DoesNotExist"}]}
        required = {"nodeSelectorTerms": [term]}
        spec["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
        }
    metadata = {"name": name, "namespace": probe.namespace, "labels": dict(_LABELS)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _reports(server: Cluster, waiting: dict[str, Probe]) -> Iterator[Report]:
    pause, until = threading.Event(), time.monotonic() + _MOST_SECONDS
    while waiting:
        is_late = time.monotonic() >= until
        for name, probe in list(waiting.items()):
            pod = server.get(PODS, probe.namespace, name)
            report = _report(probe, pod, is_late=is_late)
            if report is not None:
                del waiting[name]
                yield report
        if waiting:
            pause.wait(_LOOK_SECONDS)


def _report(probe: Probe, pod: Document | None, *, is_late: bool) -> Report | None:
    """Read a pod; None while there is hope."""
    if pod is None:
        return Report(probe, {}, _problem(probe, "its pod was deleted by somebody"))
    status = pod_status(kept_of_pod(pod))
    if status.state == SUCCEEDED:
        ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        try:
            return Report(probe, json.loads(ended.get("message") or ""))
        except ValueError:
            return Report(probe, {}, _problem(probe, "its pod left no answer"))
    why = f"{status.reason}: {status.message}" if status.reason else f"it is still {status.state}"
    if status.state == FAILED or status.reason in _NO_START:
        return Report(probe, {}, _problem(probe, f"a pod does not run there: {why}"))
    if is_late:
        why = f"a pod has not ended there within {_MOST_SECONDS:.0f} s: {why}"
        return Report(probe, {}, _problem(probe, why))
    return None


def _problem(probe: Probe, message: str) -> Finding:
    advice = "FEDLOOM_STEPS_IMAGE must be on the node, or be pulled by it"
    return Finding("pods", PROBLEM, f"{probe.where}: {message}", advice)


def _not_started(probe: Probe, error: FedloomError) -> Finding:
    state = PROBLEM if isinstance(error, RefusedError) else UNKNOWN
    return Finding("pods", state, f"{probe.where}: a pod could not be made: {error}")
