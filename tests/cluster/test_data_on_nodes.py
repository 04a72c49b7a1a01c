"""Data that lie in folders of nodes: clients' on their edges, the evaluation's in the cloud."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parent.parent.parent / "examples/05-on-a-cluster"
FOLDER = "/var/lib/fedloom-test-data"


def copying(name: str, node: str) -> dict[str, Any]:
    """A pod that lays the example's data, which its image holds, on a node."""
    container = {
        "name": "main",
        "image": "fedloom/example-digits:0.1.0",
        "command": ["sh", "-c", f"cp /app/data/*.npz {FOLDER}"],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "folder", "mountPath": FOLDER}],
    }
    volume = {"name": "folder", "hostPath": {"path": FOLDER, "type": "DirectoryOrCreate"}}
    spec = {
        "nodeName": node,
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [volume],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_clients_and_the_evaluation_read_folders_of_their_nodes(bench, tmp_path, embedded_digest):
    inside = copy.deepcopy(bench.documents)
    for node in ("edge-1", "edge-2", "edge-3", "cloud"):
        name = f"put-data-{node}"
        bench.kubectl.apply(copying(name, node))
        phase = "--for=jsonpath={.status.phase}=Succeeded"
        bench.kubectl("wait", f"pod/{name}", phase, "--timeout=120s")
        bench.kubectl("delete", "pod", name, "--wait=false")
    for each in bench.documents:
        if each["kind"] == "Dataset":
            each["spec"]["url"] = each["spec"]["url"].replace("data", FOLDER, 1)
    (evaluated,) = (d for d in bench.documents if d["metadata"]["name"] == "digits-test")
    evaluated["spec"]["nodeName"] = "edge-1"
    bench.submit()
    found = bench.wait_for("ResolvedRefs", "False")
    assert found["reason"] == "NodeMismatch", found
    assert "'edge-1', an edge" in found["message"]
    evaluated["spec"]["nodeName"] = "cloud"
    bench.kubectl.apply(evaluated)
    bench.wait_for("Complete")
    status = bench.status()
    assert [client["state"] for client in status["clients"]] == ["Succeeded"] * 3
    assert float(status["metrics"]["accuracy"]) > 0.1
    assert status["model"]["digest"] == embedded_digest(EXAMPLE, inside, tmp_path)
