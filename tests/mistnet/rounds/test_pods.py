"""The workflow of a mistnet job, its containers run one by one with what each of them is given."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from controller.cluster.disclosed import accepted_as, disclosed
from controller.decide import start_of
from controller.observed import Observed
from fedloom.api.documents import read_documents
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.validation import job_to_run
from fedloom.artifacts import layout
from pipelines.engines.argo import Owner, Setting, compile_plan
from pipelines.engines.argo_dispatch import dispatch_orders
from pipelines.engines.argo_secrets import client_secrets, server_secret
from pipelines.plan import Plan
from pipelines.rounds import RoundPlanner

UID = "8c2f1a77-5b1e-4c0e-9f57-0c8d1f0a2b3c"
SETTING = Setting(
    namespace="default",
    owner=Owner("sedna.io/v1alpha1", "FederatedLearningJob", "digits", UID),
    service_account="fedloom-worker",
    steps_image="fedloom/steps:0.1.0",
    store_uri="s3://fedloom/jobs/default/digits-8c2f1a77",
    edge_state_path="/var/lib/fedloom",
)
KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}


@dataclass
class Pods:
    """A cluster in a folder: containers are processes, their mounts are folders."""

    folder: Path
    spec_job: Any
    started: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.folder / "pods/store"

    def plan(self, number: int) -> tuple[Plan, dict[str, Any]]:
        documents = read_documents([self.spec_job.write()])
        job = job_to_run(documents)
        job = replace(job, metadata=replace(job.metadata, uid=UID))
        last = None
        if number:
            path = self.store / layout.result_key(number - 1)
            last = json.loads(path.read_bytes())
        planner = RoundPlanner(job, datasets_of(documents, job), models_of(documents, job))
        plan = planner.plan(start_of(job, Observed(last=last), now=1.0))
        return plan, compile_plan(plan, SETTING)

    def run(self, number: int) -> None:
        """Run all pods of a round, one after another."""
        plan, workflow = self.plan(number)
        secrets = {}
        for each in (
            *client_secrets(plan, SETTING, lambda _: {}),
            server_secret(plan, SETTING, KEYS),
        ):
            data = {name: base64.b64decode(value) for name, value in each["data"].items()}
            secrets[each["metadata"]["name"]] = data
        templates = {each["name"]: each for each in workflow["spec"]["templates"]}
        for task in templates["round"]["dag"]["tasks"]:
            given = (task.get("arguments") or {}).get("parameters", ())
            values = {each["name"]: each["value"] for each in given}
            text = json.dumps(templates[task["template"]])
            for name, value in values.items():
                text = text.replace("{{inputs.parameters." + name + "}}", value)
            self._run_pod(task["name"], json.loads(text), secrets)

    def _run_pod(self, name: str, pod: dict[str, Any], secrets: dict[str, Any]) -> None:
        volumes = {each["name"]: each for each in pod["volumes"]}
        home = self.folder / "pods" / f"{len(self.started)}-{name}"
        plan = volumes["fedloom-plan"]["secret"]
        for volume in ("round", "edge"):
            (home / volume).mkdir(parents=True)
        key = plan["items"][0]["key"]
        (home / "plan.json").write_bytes(secrets[plan["secretName"]][key])
        places = {
            "/fedloom/plan/plan.json": home / "plan.json",
            "/fedloom/round": home / "round",
            "/fedloom/edge": home / "edge",
            "/fedloom/node": self.folder / f"pods/nodes-{name}/default/_node",
            "/home/data": "",
        }
        for container in (*pod.get("initContainers", ()), *pod["containerSet"]["containers"]):
            self._run_container(container, places, secrets)

    def _run_container(self, container: dict[str, Any], places: Any, secrets: Any) -> None:
        def here(text: str) -> str:
            for inside, outside in places.items():
                text = text.replace(inside, str(outside))
            return text

        variables = {}
        for entry in container["env"]:
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            if reference is not None and reference["key"] in secrets[reference["name"]]:
                variables[entry["name"]] = secrets[reference["name"]][reference["key"]].decode()
            elif "value" in entry:
                variables[entry["name"]] = entry["value"]
        command = [*container["command"], *container.get("args", ())]
        command[0] = sys.executable
        if "--store" in command:
            command[command.index("--store") + 1] = self.store.as_uri()
        done = subprocess.run(
            [here(part) for part in command],
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"} | {k: here(v) for k, v in variables.items()},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (container["name"], done.stdout, done.stderr)
        self.started.append(container["name"])


@pytest.fixture
def pods(job) -> Pods:
    text = job.write().read_text()
    assert "held-out" in text
    job.spec["trainingWorkers"] = job.spec["trainingWorkers"][:2]
    job.spec["participation"]["minClients"] = 2
    write = job.write

    def with_absolute_paths() -> Path:
        path = write()
        changed = path.read_text()
        for name in ("a", "b", "c", "held-out"):
            changed = changed.replace(f'"url": "{name}"', f'"url": "{job.folder / name}"')
        path.write_text(changed)
        return path

    job.write = with_absolute_paths
    return Pods(job.folder, job)


def test_a_job_of_containers_gives_the_model_of_an_embedded_one(pods, job):
    pods.run(0)
    assert pods.started == ["prepare-extractor", "store-extractor", "commit"]
    pods.started.clear()
    pods.run(1)
    edge = ["fetch", "release", "send"]
    cloud = ["collect", "train-tail", "adopt-tail", "evaluate", "leakage-report", "commit"]
    assert pods.started == [*edge, *edge, *cloud]
    result = json.loads((pods.store / layout.result_key(1)).read_bytes())
    for name in ("a", "b"):  # the embedded run on the very same nodes
        node = job.folder / ".fedloom/default/_nodes" / name
        node.parent.mkdir(parents=True, exist_ok=True)
        (job.folder / f"pods/nodes-client-{name}/default/_node").rename(node)
    embedded = job.run_well()
    assert embedded["model"]["digest"] == result["model"]["digest"]
    assert embedded["metrics"] == pytest.approx(result["metrics"])
    assert embedded["traffic"] == result["traffic"]
    assert embedded["disclosure"]["figures"] == result["disclosure"]["figures"]
    assert list(result["clients"]["a"]["steps"]) == sorted(["fetch", "release", "send"])
    _check_conditions(pods, result)


def _check_conditions(pods, result):
    (condition,) = disclosed(result)
    assert condition.type == "PrivacyReported"
    assert result["disclosure"]["page"]["uri"] in condition.message
    assert "vacuous" in condition.message
    documents = read_documents([pods.spec_job.write()])
    assert "epsilon 2" in accepted_as(job_to_run(documents))
    assert "batchSize 16" in accepted_as(job_to_run(documents))


def test_what_an_edge_is_given(pods):
    pods.run(0)
    plan, workflow = pods.plan(1)
    client = next(t for t in workflow["spec"]["templates"] if t["name"] == "client")
    volumes = {each["name"]: each for each in client["volumes"]}
    assert volumes["fedloom-node"]["hostPath"]["path"] == "/var/lib/fedloom/default/_node"
    job_state = volumes["fedloom-edge"]["hostPath"]["path"]
    assert not volumes["fedloom-node"]["hostPath"]["path"].startswith(job_state)
    release, send = client["containerSet"]["containers"]
    mounts = {each["mountPath"] for each in send["volumeMounts"]}
    assert "/fedloom/node" not in mounts, "the key is for the container that draws the noise"
    told = {each["name"]: each.get("value") for each in release["env"]}
    assert json.loads(told["FEDLOOM_MISTNET"])["epsilon"] == 2
    assert told["FEDLOOM_MODEL"] == "/fedloom/round/model.safetensors"
    assert "FEDLOOM_EXTRACTOR" not in told
    (task,) = [task for task in plan.tasks if task.name == "release-a"]
    extractor = json.loads((pods.store / layout.result_key(0)).read_bytes())["state"]["extractor"]
    assert task.inputs["model"]["key"] == extractor["key"], "the tail never goes down"


def test_a_pretrained_file_of_the_node_is_seen_by_the_program_that_begins_with_it(pods, job):
    job.spec["pretrainedModel"] = {"name": "first"}
    metadata = {"name": "first", "namespace": "default"}
    spec = {"url": "/pretrained/yolov5.pth", "format": "pth"}
    job.extra = [
        {"apiVersion": "sedna.io/v1alpha1", "kind": "Model", "metadata": metadata, "spec": spec}
    ]
    _, workflow = pods.plan(0)
    server = next(t for t in workflow["spec"]["templates"] if t["name"] == "server")
    program = server["containerSet"]["containers"][0]
    told = {each["name"]: each.get("value") for each in program["env"]}
    assert told["FEDLOOM_PRETRAINED"] == "/home/data/pretrained/yolov5.pth"
    mounts = [each for each in program["volumeMounts"] if each["mountPath"].startswith("/home")]
    expected = {"name": "fedloom-pretrained", "mountPath": "/home/data/pretrained"}
    assert mounts == [{**expected, "readOnly": True}]
    paths = [each["hostPath"]["path"] for each in server["volumes"] if "hostPath" in each]
    assert paths == ["/pretrained"]


def test_sednas_own_images_do_the_clouds_tasks_in_the_aggregation_workers(pods, job):
    for name in ("algorithm", "hyperparameters", "rounds", "participation", "evaluation"):
        job.spec.pop(name)
    cloud = {
        "cut_layer": "1",
        "epsilon": "100",
        "aggregation_algorithm": "mistnet",
        "epochs": "100",
    }
    job.set_environment(None, cloud)
    container = job.spec["aggregationWorker"]["template"]["spec"]["containers"][0]
    container |= {"image": "aggregator:v0.4.0", "command": ["python", "aggregate.py"]}
    plan, _ = pods.plan(0)
    assert [task.step for task in plan.tasks] == ["prepare-extractor", "store-extractor", "commit"]
    assert plan.tasks[0].settings["command"] == ["python", "aggregate.py"]
    assert plan.tasks[0].settings["hyperparameters"] == {"epochs": 100, "cutLayer": 1}


def test_sednas_example_with_images_that_name_no_command_is_dispatched_whole(pods, job):
    for name in ("algorithm", "hyperparameters", "rounds", "participation", "evaluation"):
        job.spec.pop(name)
    said = {"cut_layer": "4", "epsilon": "100", "aggregation_algorithm": "mistnet"}
    for worker in (None, 0, 1):
        job.set_environment(worker, said)
    for worker in job.spec["trainingWorkers"]:
        del worker["template"]["spec"]["containers"][0]["command"]
    artifact = {"key": "k", "digest": "sha256:" + "0" * 64, "size_bytes": 1}
    last = {"round": 0, "model": artifact, "state": {"extractor": artifact}}
    result = pods.store / layout.result_key(0)
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps(last))
    plan, workflow = pods.plan(1)
    assert [t["name"] for t in workflow["spec"]["templates"]] == ["round", "dispatch", "dispatch-2"]
    found = {}
    for name, orders in dispatch_orders(plan, SETTING).items():
        spec = orders["shapes"][0]["spec"]["template"]["spec"]
        found[name] = [each["name"] for each in (*spec["initContainers"], *spec["containers"])]
    edge, cloud = found.values()
    assert edge == ["fetch", "release", "send"]
    held_out = ["collect", "train-tail", "adopt-tail", "evaluate", "commit"]
    assert cloud == ["library", *held_out], "no data in the cloud: nothing is attacked there"


def test_the_folder_of_the_node_is_made_by_its_root_even_where_jobs_keep_nothing_else(pods):
    pods.run(0)
    plan, _ = pods.plan(1)
    workflow = compile_plan(plan, replace(SETTING, edge_state_path=None))
    client = next(t for t in workflow["spec"]["templates"] if t["name"] == "client")
    (fetch,) = client["initContainers"]
    assert fetch["securityContext"]["runAsUser"] == 0
    volumes = {each["name"]: each for each in client["volumes"]}
    assert volumes["fedloom-node"]["hostPath"]["path"] == "/var/lib/fedloom/default/_node"
    assert volumes["fedloom-edge"] == {"name": "fedloom-edge", "emptyDir": {}}
