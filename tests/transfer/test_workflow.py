"""Round 0 of jobs that learn from others, as a Workflow: the order, who sees what, and what leaves nodes."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from controller.decide import start_of
from controller.observed import Observed
from controller.sources import Sources
from fedloom.api.documents import read_documents
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.validation import job_to_run
from pipelines.engines import argo, argo_secrets
from pipelines.engines.argo import Owner, Setting
from pipelines.plan import Plan
from pipelines.rounds import RoundPlanner

UID = "8c2f1a77-5b1e-4c0e-9f57-0c8d1f0a2b3c"
SETTING = Setting(
    namespace="default",
    owner=Owner("sedna.io/v1alpha1", "FederatedLearningJob", "target", UID),
    service_account="fedloom-worker",
    steps_image="fedloom/steps:0.1.0",
    store_uri="s3://fedloom/jobs/default/target-8c2f1a77",
    store_endpoint="http://minio.minio.svc:9000",
)
SOURCES = (
    {"name": "job/a", "url": "s3://fedloom/jobs/default/a-1/m.safetensors", "digest": "sha256:1"},
    {"name": "model/b", "url": "https://h/b.safetensors", "credential": "keys"},
    {"name": "uri/c", "url": "/models/c/c.safetensors"},
)


def plan_of(shop: Any, transfer: dict[str, Any], number: int = 0, **beginning: Any) -> Plan:
    fields = {"hyperparameters": beginning.pop("hyperparameters", {})}
    spec = shop.spec(transfer, **fields)
    read = read_documents([shop.write(("target", spec))])
    job = job_to_run(read)
    job = replace(job, metadata=replace(job.metadata, uid=UID))
    last = None
    if number:
        model = {"key": "round-0000/model.safetensors", "digest": "sha256:0", "size_bytes": 9}
        last = {"round": number - 1, "model": model, "state": {}}
    found = Sources(candidates=SOURCES)
    begun = {"source": None, **beginning} if beginning else None
    observed = Observed(last=last, sources=found, beginning=begun)
    planner = RoundPlanner(job, datasets_of(read, job), models_of(read, job))
    return planner.plan(start_of(job, observed, now=0.0))


def templates_of(plan: Plan) -> dict[str, Any]:
    workflow = argo.compile_plan(plan, SETTING)
    return {template["name"]: template for template in workflow["spec"]["templates"]}


def test_a_probe_prepares_asks_every_client_and_chooses(shop: Any) -> None:
    plan = plan_of(shop, {"from": [{"uri": "/models/c/c.safetensors"}], "fallback": "scratch"})
    templates = templates_of(plan)
    depends = {task["name"]: task.get("depends", "") for task in templates["round"]["dag"]["tasks"]}
    assert set(depends) == {
        "prepare",
        "client-client-0",
        "client-client-1",
        "client-client-2",
        "server",
    }
    assert depends["client-client-0"] == "prepare.Succeeded"
    assert "client-client-2.Failed" in depends["server"]
    client = templates["client"]
    names = [each["name"] for each in client["initContainers"]]
    assert names == ["fetch", "probe-0", "probe-1", "probe-2", "probe-3"]
    assert "args" in client["container"]
    for slot, container in enumerate(client["initContainers"][1:]):
        variables = {each["name"]: each.get("value") for each in container["env"]}
        assert variables["FEDLOOM_TASK"] == "evaluate"
        assert variables["FEDLOOM_MODEL"] == f"/fedloom/round/slot-{slot}/model.safetensors"
        assert variables["FEDLOOM_RESULT"] == f"/fedloom/round/slot-{slot}/result.json"


def test_an_edge_may_write_nothing_but_its_answer(shop: Any) -> None:
    plan = plan_of(shop, {"from": [{"uri": "/models/c/c.safetensors"}], "fallback": "scratch"})

    def sign(task: Any) -> dict[str, dict[str, str]]:
        gets = {str(each["key"]): "u" for each in task.inputs.values()}
        return {"get": gets, "put": dict.fromkeys(task.outputs.values(), "u")}

    files: dict[str, str] = {}
    for secret in argo_secrets.client_secrets(plan, SETTING, sign):
        files |= secret["data"]
    told = json.loads(base64.b64decode(files["client-0.json"]))
    assert [*told["urls"]["put"]] == ["round-0000/updates/client-0/1/report.json"]
    assert all("staged" not in key for key in told["urls"]["get"])


def test_the_cloud_sees_the_folders_of_sources_on_its_node(shop: Any) -> None:
    plan = plan_of(shop, {"from": [{"uri": "/models/c/c.safetensors"}], "fallback": "scratch"})
    prepare = templates_of(plan)["prepare"]
    names = [each["name"] for each in prepare["containerSet"]["containers"]]
    assert names == ["initialize", "adopt", "stage"]
    stage = prepare["containerSet"]["containers"][-1]
    assert {"name": "fedloom-pretrained", "mountPath": "/home/data/models/c", "readOnly": True} in (
        stage["volumeMounts"]
    )


@pytest.mark.parametrize("mode", ["warmStart", "body"])
def test_without_a_probe_one_pod_makes_the_first_model(shop: Any, mode: str) -> None:
    plan = plan_of(shop, {"mode": mode, "from": [{"uri": "/models/c/c.safetensors"}]})
    assert plan.cohort == ()
    server = templates_of(plan)["server"]
    names = [each["name"] for each in server["containerSet"]["containers"]]
    assert names == ["initialize", "adopt", "adopt-source", "commit"]


def test_bodies_are_tuned_merged_and_judged_by_a_second_pod(shop: Any) -> None:
    transfer = {"from": [{"uri": "/m/c.safetensors"}], "probe": "heads", "fallback": "scratch"}
    templates = templates_of(plan_of(shop, transfer, hyperparameters={"epochs": 2}))
    depends = {task["name"]: task.get("depends", "") for task in templates["round"]["dag"]["tasks"]}
    assert "client-client-1.Succeeded" in depends["merge"]
    assert "merge.Failed" in depends["judge-client-0"]
    assert "judge-client-2.Failed" in depends["server"]
    first, second = templates["client"], templates["client-2"]
    names = [each["name"] for each in first["initContainers"]]
    assert names[5:] == ["tune-1", "tune-2", "tune-3", "tune-4"]
    tune = {each["name"]: each.get("value") for each in first["initContainers"][5]["env"]}
    assert (tune["FEDLOOM_TASK"], tune["epochs"]) == ("train", "40")
    assert tune["FEDLOOM_CORRECTION"] == "/fedloom/round/tune-1/correction.safetensors"
    fetch, *judges = second["initContainers"]
    assert fetch["args"][-2:] == ["--group", "judge-{{inputs.parameters.client}}"]
    assert [each["name"] for each in judges] == ["judge-1", "judge-2", "judge-3", "judge-4"]
    assert second["container"]["command"][-1] == "components.assess"


def test_ditto_trains_a_second_time_with_a_correction_of_its_own(shop: Any) -> None:
    plan = plan_of(shop, {"anchor": {"kind": "ditto", "mu": 0.5}}, 1)
    containers = templates_of(plan)["client"]["containerSet"]["containers"]
    assert [each["name"] for each in containers] == ["train", "personalize", "compress"]
    train, own = ({e["name"]: e.get("value") for e in each["env"]} for each in containers[:2])
    assert "FEDLOOM_CORRECTION" not in train
    assert own["FEDLOOM_CORRECTION"] == "/fedloom/round/personal/correction.safetensors"
    assert own["FEDLOOM_UPDATE"] == "/fedloom/round/personal/update.safetensors"


def test_a_frozen_body_comes_to_script_and_server(shop: Any) -> None:
    transfer = {"mode": "body", "from": [{"uri": "/m/c.safetensors"}], "freeze": True}
    plan = plan_of(shop, transfer, 1, frozen=["body.w"])
    by_step = {task.step: task for task in plan.tasks}
    assert by_step["aggregate"].settings["aggregation"]["exclude"] == ["body.w"]
    assert by_step["train"].settings["drift"]["frozen"] == ["body.w"]
    train = templates_of(plan)["client"]["containerSet"]["containers"][0]
    assert any(each["name"] == "FEDLOOM_CORRECTION" for each in train["env"])
