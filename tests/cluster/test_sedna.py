"""What people bring from Sedna, on a cluster: YAML, scripts, images that speak its protocol."""

from __future__ import annotations

import copy
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/10-from-sedna"
SCRIPTS = ROOT / "tests/sedna/scripts"
IMAGE = "fedloom/example-from-sedna:0.1.0"
Document = dict[str, Any]


@pytest.fixture
def sednas(bench):
    """The bench with the documents of example 10, three rounds."""
    documents = list(yaml.safe_load_all((EXAMPLE / "job.yaml").read_text()))
    job = next(each for each in documents if each["kind"] == "FederatedLearningJob")
    job["metadata"]["name"] = bench.name
    bench.documents = [job, *(each for each in documents if each is not job)]
    bench.spec["aggregationWorker"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "exit_round", "value": "3"}
    ]
    return bench


def pod(name: str, node: str, command: str, folder: str = "/data") -> Document:
    """A pod that does something in a folder of a node."""
    volume = {"name": "folder", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["sh", "-c", command],
        "volumeMounts": [{"name": "folder", "mountPath": folder}],
    }
    spec = {
        "nodeName": node,
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [volume],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def run_pod(kubectl: Any, document: Document) -> str:
    name = document["metadata"]["name"]
    kubectl.apply(document)
    kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
    said = kubectl("logs", name)
    kubectl("delete", "pod", name, "--wait=false")
    return said


def on_nodes(bench: Any, url: str) -> None:
    """Lay the example's data on its nodes, where its Datasets then say it is; the model at `url`."""
    for each in bench.documents:
        spec = each["spec"]
        if each["kind"] == "Dataset":
            number, node = spec["url"].split("/")[1], spec["nodeName"]
            target = f"/data/{number}/"
            command = f"mkdir -p {target} && cp /app/data/{number}/train.txt {target}"
            run_pod(bench.kubectl, pod(f"put-{number}", node, command))
            spec["url"] = f"{target}train.txt"
        elif each["kind"] == "Model":
            spec["url"] = url


def test_yaml_and_scripts_of_sedna_run_unchanged_and_to_the_embedded_runs_bits(
    sednas, tmp_path, embedded_digest
):
    sednas.job["metadata"]["name"] = "digits-of-sedna"
    sednas.submit()
    sednas.wait_for("Complete")
    status = sednas.status()
    assert (status["currentRound"], status["aggregationCount"]) == (3, 3)
    assert [client["state"] for client in status["clients"]] == ["Succeeded"] * 2
    assert float(status["metrics"]["train/accuracy"]) > 0.8
    assert status["model"]["digest"] == embedded_digest(EXAMPLE, sednas.documents, tmp_path)


def test_data_of_the_nodes_is_where_sedna_mounts_it_and_the_model_comes_to_the_nodes(sednas):
    url = f"/var/lib/fedloom-models/{sednas.name}/digits.npz"
    on_nodes(sednas, url)
    sednas.submit()
    sednas.wait_for("Complete")
    sednas.wait_for("ModelDelivered")
    saved = sednas.status()["model"]["saved"]
    assert saved == [f"edge-1:{url}", f"edge-2:{url}"]
    pods = sednas.kubectl.get("pods", "-l", "fedloom.io/client=digits-1")["items"]
    volumes = [
        each["hostPath"]["path"] for each in pods[0]["spec"]["volumes"] if "hostPath" in each
    ]
    assert "/data/1" in volumes
    assert "/" not in volumes
    read = f"python -c \"import numpy; print(sorted(numpy.load('{url}').files))\""
    folder = url.rpartition("/")[0]
    assert "0000" in run_pod(sednas.kubectl, pod("look-1", "edge-1", read, folder))


def test_an_image_that_speaks_the_websocket_protocol_trains(sednas):
    script = (SCRIPTS / "websocket_client.py").read_text()
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "old-image"}}
    sednas.kubectl.apply({**config, "data": {"client.py": script}})
    sednas.spec["compat"] = "websocket"
    for worker in sednas.spec["trainingWorkers"]:
        spec = worker["template"]["spec"]
        spec["volumes"] = [{"name": "old", "configMap": {"name": "old-image"}}]
        container = spec["containers"][0]
        container["command"] = ["python", "/old/client.py"]
        container["args"] = []
        container["volumeMounts"] = [{"name": "old", "mountPath": "/old"}]
        container["env"] = []
    for each in sednas.documents:  # no file there: it then draws numbers by its name
        if each["kind"] == "Dataset":
            each["spec"]["url"] = "/data/none.txt"
    sednas.submit()
    sednas.wait_for("Complete")
    status = sednas.status()
    assert [client["state"] for client in status["clients"]] == ["Succeeded"] * 2
    assert status["model"]["digest"].startswith("sha256:")
    service = sednas.kubectl.get("service", f"{sednas.name}-aggregation")
    assert service["spec"]["ports"][0]["port"] == 7363
    assert service["metadata"]["ownerReferences"]


def test_a_job_before_its_datasets_starts_when_they_come(sednas):
    datasets = [each for each in sednas.documents if each["kind"] == "Dataset"]
    sednas.documents = [each for each in sednas.documents if each["kind"] != "Dataset"]
    sednas.kubectl("delete", "datasets", "--all")
    sednas.submit()
    sednas.wait_for("ResolvedRefs", "False")
    assert sednas.condition("ResolvedRefs")["reason"] == "DatasetNotFound"
    sednas.kubectl.apply(*datasets)
    sednas.wait_for("Complete")


def test_deleting_one_job_leaves_the_pods_of_another_alone(sednas):
    """In Sedna, editing or deleting one job deleted the pods of the one that was synced last."""
    other = copy.deepcopy(sednas.job)
    other["metadata"]["name"] = f"{sednas.name}"[:30] + "-b"
    sednas.kubectl.apply(*sednas.documents, other)

    def workflows(name: str) -> list[Document]:
        label = f"federatedlearningjob.sedna.io/name={name}"
        return sednas.kubectl.get("wf", "-l", label)["items"]

    for name in (sednas.name, other["metadata"]["name"]):
        sednas.kubectl.until(lambda name=name: workflows(name), why=f"workflows of {name}")
    sednas.kubectl("delete", "fl", other["metadata"]["name"], "--wait=true")
    sednas.wait_for("Complete")
    assert not sednas.kubectl.get(
        "pods", "-l", f"federatedlearningjob.sedna.io/name={other['metadata']['name']}"
    )["items"]


@pytest.fixture
def store_secret(sednas):
    """A Secret as Sedna has it, for the quickstart's store."""
    keys = json.loads(
        sednas.kubectl("-n", "fedloom-system", "get", "secret", "fedloom-store", "-o", "json")
    )["data"]
    annotations = {"s3-endpoint": "minio.fedloom-system.svc:9000", "s3-usehttps": "0"}
    names = {"ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID", "SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY"}
    sednas.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "mysecret", "annotations": annotations},
            "data": {name: keys[other] for name, other in names.items()},
        }
    )
    return "mysecret"


PUT_DATA = """
import io, os, zipfile
from minio import Minio
client = Minio("minio.fedloom-system.svc:9000", os.environ["ACCESS_KEY_ID"],
               os.environ["SECRET_ACCESS_KEY"], secure=False)
for number in (1, 2):
    data = open(f"/app/data/{number}/train.txt", "rb").read()
    client.put_object("fedloom", f"sets/{number}/train.txt", io.BytesIO(data), len(data))
"""


def test_data_and_models_in_s3_need_no_key_on_an_edge(sednas, store_secret):
    copying = pod("put-s3", "cloud", "true")
    copying["spec"]["initContainers"] = [
        {
            **copying["spec"]["containers"][0],
            "name": "data",
            "command": ["sh", "-c", "cp -r /app/data/* /data/"],
        }
    ]
    copying["spec"]["volumes"] = [{"name": "folder", "emptyDir": {}}]
    copying["spec"]["containers"][0] |= {
        "image": "fedloom/steps:0.1.0",
        "command": ["python", "-c", PUT_DATA.replace("/app/data", "/data")],
        "envFrom": [{"secretRef": {"name": store_secret}}],
    }
    run_pod(sednas.kubectl, copying)
    for each in sednas.documents:
        if each["kind"] == "Dataset":
            each["spec"] |= {
                "url": f"s3://fedloom/sets/{each['metadata']['name'][-1]}/train.txt",
                "credentialName": store_secret,
            }
        elif each["kind"] == "Model":
            url = f"s3://fedloom/models/{sednas.name}.npz"
            each["spec"] |= {"url": url, "credentialName": store_secret}
    sednas.submit()
    sednas.wait_for("Complete")
    sednas.wait_for("ModelDelivered")
    status = sednas.status()
    assert status["model"]["saved"] == [url]
    assert [client["samples"] for client in status["clients"]] == [1028, 769]
    pods = sednas.kubectl.get("pods", "-l", "fedloom.io/client=digits-1")["items"]
    variables = {
        each["name"]: each
        for each in pods[0]["spec"]["containers"][0]["env"]
        + pods[0]["spec"]["containers"][1]["env"]
    }
    assert "ACCESS_KEY_ID" not in variables
    assert store_secret not in json.dumps([each["spec"] for each in pods])


def test_the_commands_of_the_guide_run_as_they_stand_there(kubectl):
    guide = (ROOT / "docs/how-to/from-sedna.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    commands = [line[1:] for line in lines if line[:1] == ["kubectl"]]
    path, place = "examples/10-from-sedna/job.yaml", str(EXAMPLE / "job.yaml")
    try:
        said = [kubectl(*(place if word == path else word for word in c)) for c in commands]
    finally:
        kubectl("delete", "fl", "digits-sedna", "--ignore-not-found", "--wait=false")
    assert "condition met" in said[1]
    assert "Succeeded" in said[2]
