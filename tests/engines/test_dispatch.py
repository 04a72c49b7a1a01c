"""Clients whose node reaches no API server: one dispatcher in the workflow, plain Jobs on the edges."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pipelines.engines.argo import compile_plan
from pipelines.engines.argo_dispatch import client_jobs, dispatch_orders

EVERYBODY = frozenset({"digits-1", "digits-2", "digits-3"})


def tasks(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {task["name"]: task for task in workflow["spec"]["templates"][0]["dag"]["tasks"]}


def jobs(plan, setting) -> dict[str, dict[str, Any]]:
    every = dispatch_orders(plan, setting).values()
    made = [job for orders in every for job in client_jobs(orders, "w-r1-a1", "uid-of-w")]
    return {job["metadata"]["name"]: job for job in made}


def test_one_task_stands_for_all_dispatched_clients(planned, example, setting):
    workflow = compile_plan(planned(example), replace(setting, dispatched=EVERYBODY))
    assert list(tasks(workflow)) == ["dispatch", "server"]
    assert "dispatch.Failed" in tasks(workflow)["server"]["depends"]
    names = [template["name"] for template in workflow["spec"]["templates"]]
    assert names == ["round", "dispatch", "server"]


def test_the_dispatcher_knows_its_workflow_and_reads_its_orders(planned, example, setting):
    workflow = compile_plan(planned(example), replace(setting, dispatched=EVERYBODY))
    template = workflow["spec"]["templates"][1]
    assert template["container"]["command"] == ["python", "-I", "-m", "controller.dispatcher"]
    assert "{{workflow.uid}}" in template["container"]["args"]
    assert template["serviceAccountName"] == "fedloom-dispatcher"
    (source,) = template["volumes"][0]["projected"]["sources"]
    assert source == {"secret": {"name": "digits-8c2f1a77-r1-a1-dispatch-0"}}


def test_both_ways_go_together_in_one_round(planned, example, setting):
    setting = replace(setting, dispatched=frozenset({"digits-2"}))
    depends = tasks(compile_plan(planned(example), setting))["server"]["depends"]
    assert "client-digits-1.Failed" in depends
    assert "dispatch.Failed" in depends
    assert list(jobs(planned(example), setting)) == ["w-r1-a1-client-digits-2"]


def test_a_template_without_a_command_goes_this_way_by_itself(planned, example, setting):
    container = example[0]["spec"]["trainingWorkers"][2]["template"]["spec"]["containers"][0]
    del container["command"]
    container["args"] = ["--fast"]
    plan = planned(example)
    assert list(tasks(compile_plan(plan, setting))) == [
        "dispatch",
        "client-digits-1",
        "client-digits-2",
        "server",
    ]
    pod = jobs(plan, setting)["w-r1-a1-client-digits-3"]["spec"]["template"]["spec"]
    train = pod["initContainers"][1]
    assert "command" not in train
    assert train["args"] == ["--fast"]


def test_a_job_runs_fetch_the_users_container_and_compress_in_order(planned, example, setting):
    made = jobs(planned(example), replace(setting, dispatched=EVERYBODY))
    assert sorted(made) == [f"w-r1-a1-client-digits-{number}" for number in (1, 2, 3)]
    job = made["w-r1-a1-client-digits-2"]
    pod = job["spec"]["template"]["spec"]
    assert [c["name"] for c in pod["initContainers"]] == ["fetch", "train"]
    assert [c["name"] for c in pod["containers"]] == ["compress"]
    assert pod["nodeName"] == "edge-2"
    assert pod["restartPolicy"] == "Never"
    assert pod["automountServiceAccountToken"] is False
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == 180
    assert "{{" not in json.dumps(job)


def test_a_job_is_the_workflows_and_carries_the_labels(planned, example, setting):
    job = jobs(planned(example), replace(setting, dispatched=EVERYBODY))["w-r1-a1-client-digits-1"]
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Workflow", "w-r1-a1", "uid-of-w")
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        assert labels["fedloom.io/client"] == "digits-1"
        assert labels["federatedlearningjob.sedna.io/worker-type"] == "train"


def test_values_with_quotes_survive_the_filling_in(planned, example, setting):
    example[1]["spec"]["url"] = '/data/say "hi"\\/x.npz'
    plan = planned(example)
    job = jobs(plan, replace(setting, dispatched=EVERYBODY))["w-r1-a1-client-digits-1"]
    volumes = {each["name"]: each for each in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["fedloom-data"]["hostPath"]["path"] == '/data/say "hi"\\'


def test_orders_of_many_clients_are_parts_that_share_their_shape(planned, crowd, setting):
    plan = planned(crowd(1_200))
    orders = dispatch_orders(plan, replace(setting, dispatched=frozenset(plan.cohort)))
    assert [len(part["orders"]) for part in orders.values()] == [500, 500, 200]
    assert [len(part["shapes"]) for part in orders.values()] == [1, 1, 1]
    assert max(len(json.dumps(part)) for part in orders.values()) < 200_000


def test_the_clouds_side_is_dispatched_too_where_its_image_has_the_command(
    planned, example, setting
):
    evaluation = json.loads(json.dumps(example[0]["spec"]["trainingWorkers"][0]["template"]))
    del evaluation["spec"]["containers"][0]["command"]
    example[0]["spec"]["evaluation"]["template"] = evaluation
    plan = planned(example)
    workflow = compile_plan(plan, setting)
    assert workflow["metadata"]["annotations"]["fedloom.io/last-task"] == "dispatch"
    (orders,) = dispatch_orders(plan, setting).values()
    assert [order["may_fail"] for order in orders["orders"]] == [False]
    (job,) = jobs(plan, setting).values()
    pod = job["spec"]["template"]["spec"]
    assert [c["name"] for c in pod["initContainers"]] == ["aggregate", "evaluate"]
    assert [c["name"] for c in pod["containers"]] == ["commit"]
