"""A round as an Argo Workflow: who runs where, waits for whom, and is told what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedloom.api.documents import render_documents
from fedloom.errors import JobError
from pipelines.engines import argo
from pipelines.engines.argo import compile_plan
from pipelines.engines.argo_tasks import depends_on

GOLDEN = Path(__file__).parent / "golden"


def template(workflow: dict[str, Any], name: str) -> dict[str, Any]:
    return next(t for t in workflow["spec"]["templates"] if t["name"] == name)


def dag(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {task["name"]: task for task in template(workflow, "round")["dag"]["tasks"]}


def containers(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    every = [*template.get("initContainers", ()), *template["containerSet"]["containers"]]
    return {container["name"]: container for container in every}


def variables(container: dict[str, Any]) -> dict[str, Any]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}


def worker(example: list[dict[str, Any]], index: int = 0) -> dict[str, Any]:
    return example[0]["spec"]["trainingWorkers"][index]["template"]["spec"]


@pytest.mark.parametrize(
    ("name", "number", "changes"),
    [
        ("round-0", 0, {}),
        ("round-1", 1, {"edge_state_path": "/var/lib/fedloom"}),
        ("round-1-dispatched", 1, {"dispatched": frozenset({"digits-2", "digits-3"})}),
    ],
)
def test_the_example_compiles_to_its_golden_workflow(
    name, number, changes, planned, example, setting
):
    """FEDLOOM_GOLDEN=write writes them anew; the difference is for a person to read."""
    workflow = compile_plan(planned(example, number), replace(setting, **changes))
    path, text = GOLDEN / f"{name}.yaml", render_documents([workflow])
    if os.environ.get("FEDLOOM_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_many_clients_are_items_and_the_golden_workflow_says_how(
    planned, example, setting, monkeypatch
):
    monkeypatch.setattr("pipelines.engines.argo_tasks.MOST_NAMED", 2)
    workflow = compile_plan(planned(example), setting)
    path, text = GOLDEN / "round-1-items.yaml", render_documents([workflow])
    if os.environ.get("FEDLOOM_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()
    tasks = dag(workflow)
    assert list(tasks) == ["clients-1", "server"]
    assert [item["client"] for item in tasks["clients-1"]["withItems"]] == [
        "digits-1",
        "digits-2",
        "digits-3",
    ]


def test_the_server_waits_for_every_end_of_every_client(planned, example, setting):
    workflow = compile_plan(planned(example), setting)
    depends = dag(workflow)["server"]["depends"]
    for client in ("digits-1", "digits-2", "digits-3"):
        for end in ("Succeeded", "Failed", "Errored", "Skipped", "Omitted"):
            assert f"client-{client}.{end}" in depends
    assert "AnySucceeded" not in json.dumps(workflow)


def test_a_client_that_fails_stops_nobody(planned, example, setting):
    entry = template(compile_plan(planned(example), setting), "round")
    assert entry["dag"]["failFast"] is False
    assert "failFast" not in entry


def test_a_task_that_may_not_fail_is_waited_for_with_success():
    expression = depends_on([("client-a", True), ("combine", False), ("client-a", True)])
    assert expression.endswith("&& combine.Succeeded")
    assert expression.count("client-a.Failed") == 1


def test_trees_and_shards_are_tasks_like_any_other(planned, example, setting):
    example[0]["spec"]["aggregation"] = {"rule": "mean", "fanIn": 2}
    tasks = dag(compile_plan(planned(example), setting))
    assert tasks["server"]["depends"] == "combine-1-0000.Succeeded && combine-1-0001.Succeeded"
    assert "client-digits-3.Failed" in tasks["combine-1-0001"]["depends"]
    assert "client-digits-1" not in tasks["combine-1-0001"]["depends"]


def test_parts_of_an_aggregation_are_told_apart_by_their_tasks(planned, example, setting):
    example[0]["spec"]["aggregation"] = {"rule": "mean", "shards": 2}
    workflow = compile_plan(planned(example), setting)
    arguments = template(workflow, "shard-0001")["container"]["args"]
    assert arguments[-2:] == ["--task", "shard-0001"]
    assert arguments.count("--plan") == 1


def test_the_users_container_is_as_written(planned, example, setting):
    written = {
        "name": "mine",
        "image": "registry.example/train:3",
        "imagePullPolicy": "Always",
        "command": ["python", "train.py"],
        "args": ["--fast"],
        "resources": {"limits": {"memory": "1Gi", "example.com/gpu": 1}},
        "securityContext": {"runAsUser": 1000},
        "workingDir": "/app",
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
        "terminationMessagePolicy": "File",
        "restartPolicyRules": [{"action": "Restart"}],  # what a builder's model may not know
    }
    worker(example)["containers"] = [written]
    worker(example)["volumes"] = [{"name": "cache", "emptyDir": {}}]
    workflow = compile_plan(planned(example), setting)
    made = containers(template(workflow, "client"))["train"]
    added = {"name", "env", "volumeMounts"}
    assert {k: v for k, v in made.items() if k not in added} == {
        k: v for k, v in written.items() if k not in added
    }
    assert made["volumeMounts"][0] == written["volumeMounts"][0]
    assert {"name": "cache", "emptyDir": {}} in template(workflow, "client")["volumes"]


def test_what_argo_has_no_field_for_is_patched_into_the_pod(planned, example, setting):
    worker(example).update(
        hostNetwork=True,
        dnsPolicy="Default",
        imagePullSecrets=[{"name": "registry"}],
        runtimeClassName="kata",
        nodeName="edge-7",
        restartPolicy="OnFailure",
        tolerations=[{"key": "edge", "operator": "Exists"}],
        securityContext={"fsGroup": 2000},
    )
    workflow = compile_plan(planned(example), setting)
    client = template(workflow, "client")
    assert json.loads(client["podSpecPatch"]) == {
        "hostNetwork": True,
        "dnsPolicy": "Default",
        "imagePullSecrets": [{"name": "registry"}],
        "runtimeClassName": "kata",
        "nodeName": "{{inputs.parameters.node}}",
    }
    assert client["tolerations"] == [{"key": "edge", "operator": "Exists"}]
    assert client["securityContext"] == {"fsGroup": 2000}
    values = dag(workflow)["client-digits-1"]["arguments"]["parameters"]
    assert {"name": "node", "value": "edge-7"} in values


def test_a_client_without_a_node_of_its_own_is_scheduled(planned, example, setting):
    worker(example)["nodeSelector"] = {"site": "north"}
    workflow = compile_plan(planned(example), setting)
    assert template(workflow, "client")["nodeSelector"] == {"site": "north"}
    assert "podSpecPatch" not in template(workflow, "client")


def test_workers_with_one_template_share_one(planned, example, setting):
    workflow = compile_plan(planned(example), setting)
    assert [t["name"] for t in workflow["spec"]["templates"]] == ["round", "client", "server"]
    worker(example, 1)["containers"][0]["env"] = [{"name": "batch_size", "value": "8"}]
    workflow = compile_plan(planned(example), setting)
    assert dag(workflow)["client-digits-2"]["template"] == "client-2"
    assert dag(workflow)["client-digits-3"]["template"] == "client"


def test_the_workers_own_variables_win_over_hyperparameters_and_ours_over_all(
    planned, example, setting
):
    worker(example)["containers"][0]["env"] = [
        {"name": "batch_size", "value": "8"},
        {"name": "FEDLOOM_ROUND", "value": "99"},
        {"name": "JOB_NAME", "value": "other"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]
    train = containers(template(compile_plan(planned(example), setting), "client"))["train"]
    names = [entry["name"] for entry in train["env"]]
    assert len(names) == len(set(names))
    found = variables(train)
    assert found["batch_size"] == "8"
    assert found["batchSize"] == "32"
    assert json.loads(found["FEDLOOM_HYPERPARAMETERS"])["batchSize"] == 8
    assert found["FEDLOOM_ROUND"] == "1"
    assert found["JOB_NAME"] == "digits"
    assert found["TOKEN"] == {"secretKeyRef": {"name": "s", "key": "k"}}
    assert found["NAMESPACE"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}


def test_the_data_of_a_node_is_mounted_where_sedna_mounts_it(planned, example, setting):
    for dataset, url in zip(
        example[1:4], ("/data/1/COCO", "/data/2/COCO", "/data/3/COCO"), strict=True
    ):
        dataset["spec"]["url"] = url
    workflow = compile_plan(planned(example), setting)
    client = template(workflow, "client")
    folder = "{{inputs.parameters.folder}}"
    assert {"name": "fedloom-data", "hostPath": {"path": folder}} in client["volumes"]
    mounts = containers(client)["train"]["volumeMounts"]
    assert {"name": "fedloom-data", "mountPath": f"/home/data{folder}"} in mounts
    values = dag(workflow)["client-digits-2"]["arguments"]["parameters"]
    assert {"name": "folder", "value": "/data/2"} in values


def test_the_whole_disk_of_a_node_is_never_mounted(planned, example, setting):
    example[1]["spec"]["url"] = "/model"
    values = dag(compile_plan(planned(example), setting))["client-digits-1"]["arguments"]
    assert {"name": "folder", "value": "/model"} in values["parameters"]


def test_data_that_the_template_mounts_itself_is_mounted_once(planned, example, setting):
    example[1]["spec"]["url"] = "/data/1/x.npz"
    worker(example)["volumes"] = [{"name": "d", "hostPath": {"path": "/data"}}]
    worker(example)["containers"][0]["volumeMounts"] = [{"name": "d", "mountPath": "/data/"}]
    workflow = compile_plan(planned(example), setting)
    assert "fedloom-data" not in json.dumps(template(workflow, "client"))


def test_only_our_containers_see_the_urls(planned, example, setting):
    workflow = compile_plan(planned(example), setting)
    found = containers(template(workflow, "client"))
    seeing = {n for n, c in found.items() if "fedloom-plan" in json.dumps(c["volumeMounts"])}
    assert seeing == {"fetch", "compress"}


def test_the_users_evaluation_sees_no_key_of_the_store(planned, example, setting):
    found = containers(template(compile_plan(planned(example), setting), "server"))
    assert "AWS_SECRET_ACCESS_KEY" in variables(found["aggregate"])
    assert "AWS_" not in json.dumps(found["evaluate"])
    assert "fedloom-plan" not in json.dumps(found["evaluate"])


def test_a_round_without_evaluation_is_one_container_in_the_cloud(planned, example, setting):
    del example[0]["spec"]["evaluation"]
    server = template(compile_plan(planned(example), setting), "server")
    assert server["container"]["command"] == ["python", "-I", "-m", "components.server"]
    assert server["container"]["args"][-2:] == ["--group", "server"]


def test_the_cloud_side_runs_where_the_aggregation_worker_says(planned, example, setting):
    raw = example[0]["spec"]["aggregationWorker"]["template"]
    raw["spec"]["nodeSelector"] = {"zone": "a"}
    raw["spec"]["affinity"] = {"podAffinity": {}}
    raw["spec"]["containers"][0]["resources"] = {"requests": {"memory": "2Gi"}}
    worker(example)["affinity"] = {"nodeAffinity": {}}
    with_template = replace(setting, server_template=raw)
    server = template(compile_plan(planned(example), with_template), "server")
    assert server["nodeSelector"] == {"zone": "a"}
    assert server["affinity"] == raw["spec"]["affinity"]
    assert containers(server)["aggregate"]["resources"] == {"requests": {"memory": "2Gi"}}


def test_the_cloud_side_keeps_off_the_edges_unless_it_is_placed(planned, example, setting):
    def affinity() -> object:
        return template(compile_plan(planned(example), setting), "server").get("affinity")

    assert "node-role.kubernetes.io/edge" in json.dumps(affinity())
    raw = example[0]["spec"]["aggregationWorker"]["template"]
    raw["spec"]["nodeName"] = "cloud"
    assert affinity() is None


def test_edge_state_lies_below_the_jobs_own_folder(planned, example, setting):
    on_node = replace(setting, edge_state_path="/var/lib/fedloom/")
    client = template(compile_plan(planned(example), on_node), "client")
    path = "/var/lib/fedloom/default/digits-8c2f1a77"
    state = {"name": "fedloom-edge", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}
    assert state in client["volumes"]


def test_a_client_has_the_deadline_of_its_training_and_a_grace(planned, example, setting):
    workflow = compile_plan(planned(example), setting)
    assert template(workflow, "client")["timeout"] == "180s"
    assert "pendingTimeout" not in json.dumps(workflow)
    newer = compile_plan(planned(example), replace(setting, pending_timeout=True))
    assert template(newer, "client")["pendingTimeout"] == "180s"


def test_only_the_cloud_side_is_tried_again(planned, example, setting):
    workflow = compile_plan(planned(example), setting)
    assert template(workflow, "server")["retryStrategy"]["retryPolicy"] == "OnError"
    assert "retryStrategy" not in template(workflow, "client")


def test_what_a_client_receives_is_a_part_of_fetch(planned, example, setting):
    example[0]["spec"]["compression"] = {"downlink": {"codec": "int8"}}
    client = template(compile_plan(planned(example), setting), "client")
    assert [c["name"] for c in client["initContainers"]] == ["fetch"]
    assert [c["name"] for c in client["containerSet"]["containers"]] == ["train", "compress"]


def test_the_first_model_is_made_broadcast_and_committed_in_order(planned, example, setting):
    example[0]["spec"]["compression"] = {"downlink": {"codec": "int8"}}
    server = template(compile_plan(planned(example, 0), setting), "server")
    steps = server["containerSet"]["containers"]
    assert [step["name"] for step in steps] == ["initialize", "adopt", "broadcast", "commit"]
    assert [step.get("dependencies") for step in steps] == [
        None,
        ["initialize"],
        ["adopt"],
        ["broadcast"],
    ]


def test_a_pretrained_model_needs_no_container_of_the_user(planned, example, setting):
    example[0]["spec"]["pretrainedModel"] = {"name": "digits-model"}
    server = template(compile_plan(planned(example, 0), setting), "server")
    assert server["container"]["command"][-1] == "components.server"


def test_compiling_twice_gives_the_same(planned, example, setting):
    plan = planned(example)
    assert compile_plan(plan, setting) == compile_plan(plan, setting)


@pytest.mark.parametrize("count", [1_000, 4_000])
def test_a_thousand_clients_compile_fast_and_fit(count, planned, crowd, setting):
    plan = planned(crowd(count))
    import hera.workflows  # noqa: F401 (half a second, once per process)

    started = time.process_time()
    workflow = compile_plan(plan, setting)
    assert time.process_time() - started < 2
    assert len(json.dumps(workflow)) < 450_000
    assert len(dag(workflow)) == (count + 1 if count <= 1_000 else 2)


def test_more_clients_than_a_workflow_holds_are_refused(planned, example, setting):
    plan = replace(planned(example), cohort=tuple(f"c{number}" for number in range(4_001)))
    with pytest.raises(JobError, match=r"got 4001 clients, expected at most 4000") as caught:
        compile_plan(plan, setting)
    assert caught.value.reason == "TooManyClients"
    assert argo.MOST_CLIENTS == 4_000


def test_hundreds_of_different_templates_are_refused(planned, crowd, setting):
    documents = crowd(600)
    template = json.dumps(documents[0]["spec"]["trainingWorkers"][0]["template"])
    for number, each in enumerate(documents[0]["spec"]["trainingWorkers"]):
        each["template"] = json.loads(template)
        each["template"]["spec"]["containers"][0]["env"] = [{"name": "N", "value": str(number)}]
    with pytest.raises(JobError, match="Let trainingWorkers share one template") as caught:
        compile_plan(planned(documents), setting)
    assert caught.value.reason == "WorkflowTooLarge"


def test_nobody_pays_for_hera_before_a_workflow_is_made():
    code = "import sys, pipelines.engines.argo; sys.exit('hera' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def server(workflow: dict[str, Any]) -> dict[str, Any]:
    return next(t for t in workflow["spec"]["templates"] if t["name"] == "server")


def on_node(example: list[dict[str, Any]], url: str) -> list[dict[str, Any]]:
    (dataset,) = (each for each in example if each["metadata"]["name"] == "digits-test")
    dataset["spec"] |= {"url": url, "nodeName": "big-one"}
    return example


def test_an_evaluation_goes_to_the_node_of_its_data_and_sees_their_folder(
    planned, example, setting
):
    found = server(compile_plan(planned(on_node(example, "/sets/digits/test.npz")), setting))
    evaluate = containers(found)["evaluate"]
    assert variables(evaluate)["TRAIN_DATASET_URL"] == "/home/data/sets/digits/test.npz"
    mount = {"name": "fedloom-data", "mountPath": "/home/data/sets/digits", "readOnly": True}
    assert mount in evaluate["volumeMounts"]
    assert {"name": "fedloom-data", "hostPath": {"path": "/sets/digits"}} in found["volumes"]
    assert json.loads(found["podSpecPatch"])["nodeName"] == "big-one"
    assert "affinity" not in found
    assert mount not in containers(found)["aggregate"]["volumeMounts"]


def test_data_that_the_evaluation_mounts_itself_are_its_own_matter(planned, example, setting):
    volumes = {
        "volumes": [{"name": "sets", "persistentVolumeClaim": {"claimName": "sets"}}],
        "containers": [
            {
                **worker(example)["containers"][0],
                "volumeMounts": [{"name": "sets", "mountPath": "/sets"}],
            }
        ],
    }
    example[0]["spec"]["evaluation"]["template"] = {"spec": volumes}
    found = server(compile_plan(planned(on_node(example, "/sets/digits/test.npz")), setting))
    assert variables(containers(found)["evaluate"])["TRAIN_DATASET_URL"] == "/sets/digits/test.npz"
    assert "nodeName" not in found.get("podSpecPatch", "")
    assert "affinity" in found


def test_an_evaluation_goes_where_the_aggregation_worker_says(planned, example, setting):
    place = {"nodeSelector": {"zone": "south"}}
    example[0]["spec"]["aggregationWorker"]["template"]["spec"] |= place
    found = server(compile_plan(planned(on_node(example, "/sets/digits/test.npz")), setting))
    assert "nodeName" not in found.get("podSpecPatch", "")
    assert found["nodeSelector"] == {"zone": "south"}
