"""MistNet on a cluster: Sedna's own YAML of a YOLOv5, and the digits; what edges release is told."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
DETECTOR, DIGITS = ROOT / "examples/06-mistnet-yolov5", ROOT / "examples/07-mistnet-digits"
Document = dict[str, Any]


def documents_of(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def with_job_first(documents: list[Document]) -> list[Document]:
    return sorted(documents, key=lambda each: each["kind"] != "FederatedLearningJob")


@pytest.fixture
def needs_image(kubectl):
    def look(image: str, example: str) -> None:
        nodes = kubectl.get("nodes")["items"]
        every = [image for node in nodes for image in node["status"].get("images") or ()]
        known = {name for each in every for name in each["names"] or ()}
        if not any(name.endswith(image) for name in known):
            pytest.skip(f"{image} is on no node: make cluster-install EXAMPLES={example}")

    return look


@pytest.fixture
def prepared_nodes(kubectl, needs_image):
    """Data and a pretrained model where Sedna's YAML has them; little of both, and gone afterwards."""
    needs_image("fedloom/example-mistnet-yolo:0.1.0", DETECTOR.name)
    jobs = documents_of(DETECTOR / "prepare.yaml")
    for job in jobs:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        container["command"] += ["--images", "64", "--epochs", "4"]
    kubectl.apply(*jobs)
    names = [f"job/{job['metadata']['name']}" for job in jobs]
    kubectl("wait", "--for=condition=Complete", "--timeout=500s", *names)
    kubectl("delete", "--wait=true", *names)
    yield
    for job in jobs:
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        container["command"] = ["sh", "-c", "rm -rf /node/*/COCO /node/*/*/COCO /node/*/yolov5.pth"]
    kubectl.apply(*jobs)
    kubectl("wait", "--for=condition=Complete", "--timeout=100s", *names)
    kubectl("delete", "--wait=true", *names)


def test_sednas_yaml_of_a_yolov5_runs_as_it_stands(bench, prepared_nodes):
    keys = bench.kubectl.get("-n", "fedloom-system", "secret", "fedloom-store")["data"]
    values = [
        base64.b64decode(keys[f"AWS_{name}"]).decode()
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    ]
    bench.documents = with_job_first(documents_of(DETECTOR / "job.yaml"))
    (secret,) = (each for each in bench.documents if each["kind"] == "Secret")
    secret["stringData"] = dict(zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"), values, strict=True))
    secret["metadata"]["annotations"] = {
        "s3-endpoint": "minio.fedloom-system.svc:9000",
        "s3-usehttps": "0",
    }
    bench.submit()
    bench.wait_for("Complete", seconds=560)
    status = bench.status()
    clients = {client["nodeName"]: client for client in status["clients"]}
    assert {node: client["samples"] for node, client in clients.items()} == {
        "edge-1": 64,
        "edge-2": 64,
    }
    assert float(status["metrics"]["mAP50"]) > 0
    bench.wait_for("ModelDelivered")
    bench.wait_for("PrivacyReported")
    assert "epsilon 100" in bench.condition("Accepted")["message"]
    told = bench.kubectl("describe", "fl", bench.name)
    assert re.search(r"no privacy at all", told)
    assert re.search(r"privacy-report\.html", told)
    model = bench.kubectl.until(
        lambda: (bench.status().get("model") or {}).get("version") and bench.status()["model"],
        why="the model's version in MLflow",
    )
    assert model["registeredModel"] == "yolo-v5-model", (
        "by the name of the aggregation worker's Model"
    )
    noted = bench.kubectl.until(
        lambda: bench.kubectl.get("model.sedna.io", "yolo-v5-model").get("status"),
        why="the Model's metrics",
    )
    assert {each["key"] for each in noted["metrics"]} >= {"mAP50"}
    bench.kubectl("delete", "fl", bench.name, "--wait=true")


def test_edges_release_digits_once_and_the_report_says_what_that_gives_away(bench, needs_image):
    needs_image("fedloom/example-mistnet-digits:0.1.0", DIGITS.name)
    bench.documents = with_job_first(documents_of(DIGITS / "job.yaml"))
    bench.job["metadata"]["name"] = "mistnet-digits"
    places = {"edge-0": "edge-1", "edge-1": "edge-2", "edge-2": "edge-3", "edge-3": "edge-1"}
    for each in bench.documents[1:]:
        if each["kind"] == "Dataset":
            each["spec"]["nodeName"] = places.get(each["spec"]["nodeName"], "cloud")
    bench.submit()
    bench.wait_for("Complete")
    status = bench.status()
    assert float(status["metrics"]["accuracy"]) > 0.9
    assert [client["state"] for client in status["clients"]] == ["Succeeded"] * 4
    reported = bench.wait_for("PrivacyReported")
    assert "privacy-report.html" in reported["message"]
    workflows = bench.kubectl.get("wf", "-l", f"federatedlearningjob.sedna.io/name={bench.name}")
    said = json.dumps([each["spec"] for each in workflows["items"]])
    assert "noise" not in said, "no key and no seed of noise is in any workflow"
    bench.kubectl("delete", "fl", bench.name, "--wait=true")
