"""Local controllers on the edges: what they are told, what they count, what workers tell them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/10-from-sedna"
SYSTEM = ("-n", "fedloom-system")
EDGE = ("-n", "fedloom-edge")


def overlay(name: str, address: str) -> str:
    """The overlay's documents, for this cluster."""
    found = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / f"manifests/overlays/{name}")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = found.replace("CLOUD_ADDRESS", address).replace("10.244.0.0/16", "10.0.0.0/8")
    minio = os.environ.get("FEDLOOM_MINIO_IMAGE")
    if minio:
        lines = found.splitlines()
        found = "\n".join(
            f"{line.partition('image:')[0]}image: {minio}"
            if "quay.io/minio/minio" in line
            else line
            for line in lines
        )
    return found


@pytest.fixture
def local_controllers(kubectl: Any) -> Iterator[None]:
    """The overlay for KubeEdge instead of the quickstart."""
    nodes = kubectl.get("nodes", "-l", "!node-role.kubernetes.io/edge")["items"]
    addresses = {each["type"]: each["address"] for each in nodes[0]["status"]["addresses"]}

    def apply(name: str) -> None:
        text = overlay(name, addresses["InternalIP"])
        command = ["kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-"]
        subprocess.run(command, input=text, text=True, capture_output=True, check=True)
        kubectl(*SYSTEM, "rollout", "restart", "deployment/fedloom-controller")
        kubectl(*SYSTEM, "rollout", "status", "deployment/fedloom-controller", "--timeout=120s")

    apply("kubeedge")
    kubectl(*EDGE, "rollout", "status", "daemonset/fedloom-local-controller", "--timeout=120s")
    yield
    kubectl("delete", "namespace", "fedloom-edge", "--wait=true")
    apply(os.environ.get("FEDLOOM_OVERLAY", "quickstart"))
    settings = '{"data": {"FEDLOOM_EDGE_RUNTIME": null, "FEDLOOM_LOCAL_CONTROLLER": null}}'
    kubectl(*SYSTEM, "patch", "configmap", "fedloom-controller", "--type=merge", "-p", settings)
    kubectl(*SYSTEM, "rollout", "restart", "deployment/fedloom-controller")
    kubectl(*SYSTEM, "rollout", "status", "deployment/fedloom-controller", "--timeout=120s")


def data_pod(name: str, node: str, command: str) -> dict[str, Any]:
    volume = {"name": "data", "hostPath": {"path": "/data", "type": "DirectoryOrCreate"}}
    container = {
        "name": "main",
        "image": "fedloom/example-from-sedna:0.1.0",
        "command": ["sh", "-c", command],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec: dict[str, Any] = {"nodeName": node, "restartPolicy": "Never"}
    spec |= {"containers": [container], "volumes": [volume]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def run(kubectl: Any, name: str, node: str, command: str) -> None:
    kubectl.apply(data_pod(name, node, command))
    kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
    kubectl("delete", "pod", name, "--wait=true")


def test_edges_are_told_of_jobs_count_their_data_and_pass_on_what_workers_report(
    bench, local_controllers
):
    documents = list(yaml.safe_load_all((EXAMPLE / "job.yaml").read_text()))
    job = next(each for each in documents if each["kind"] == "FederatedLearningJob")
    job["metadata"]["name"] = bench.name
    bench.documents = [job, *(each for each in documents if each is not job)]
    bench.spec["aggregationWorker"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "exit_round", "value": "2"}
    ]
    for each in bench.documents:
        if each["kind"] == "Dataset":
            number, node = each["spec"]["url"].split("/")[1], each["spec"]["nodeName"]
            folder = f"/data/lc-{number}"
            command = f"mkdir -p {folder} && cp /app/data/{number}/train.txt {folder}/"
            run(bench.kubectl, f"put-{number}", node, command)
            each["spec"]["url"] = f"{folder}/train.txt"
    datasets = [each for each in bench.documents if each["kind"] == "Dataset"]
    bench.kubectl("delete", "datasets", "--all")
    bench.kubectl.apply(*datasets)

    def samples() -> int | None:
        return bench.kubectl.get("dataset", "digits-1").get("status", {}).get("numberOfSamples")

    # Counted by the node before any job used it, and again when it changes.
    bench.kubectl.until(lambda: samples() == 1028, 150, why="the count of digits-1")
    first = "head -n 1 /data/lc-1/train.txt > /data/lc-1/more"
    run(bench.kubectl, "add-1", "edge-1", f"{first} && cat /data/lc-1/more >> /data/lc-1/train.txt")
    bench.kubectl.until(lambda: samples() == 1029, 150, why="the new count of digits-1")

    bench.submit()
    bench.wait_for("Complete")
    training = bench.condition("Training")
    assert training["message"].startswith("Round 2 reaches at ")
    said = bench.kubectl(*EDGE, "logs", "-l", "app.kubernetes.io/component=local-controller")
    assert f"insert of federatedlearningjobs {bench.kubectl.namespace}/{bench.name}" in said
    bench.kubectl("delete", "fl", bench.name, "--wait=true")
    bench.kubectl.until(
        lambda: (
            "delete of federatedlearningjobs"
            in bench.kubectl(*EDGE, "logs", "-l", "app.kubernetes.io/component=local-controller")
        ),
        why="the delete on the edges",
    )
