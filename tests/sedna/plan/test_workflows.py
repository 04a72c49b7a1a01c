"""Sedna jobs as pods: who is asked, who combines, and where the library is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.decide import start_of
from controller.observed import Observed
from fedloom.api.documents import read_documents
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.sedna import described
from fedloom.api.validation import job_to_run
from fedloom.artifacts import layout
from pipelines.engines.argo import Owner, Setting, compile_plan
from pipelines.engines.argo_dispatch import dispatch_orders
from pipelines.plan import Plan
from pipelines.rounds import RoundPlanner

UID = "8c2f1a77-5b1e-4c0e-9f57-0c8d1f0a2b3c"
SETTING = Setting(
    namespace="default",
    owner=Owner("sedna.io/v1alpha1", "FederatedLearningJob", "mover", UID),
    service_account="fedloom-worker",
    steps_image="fedloom/steps:0.1.0",
    store_uri="s3://fedloom/jobs/default/mover-8c2f1a77",
    store_endpoint="http://minio.minio.svc:9000",
)
LIBRARY = "/fedloom/sedna"


def planned(bench: Any, number: int, description: dict[str, Any] | None = None) -> Plan:
    documents = read_documents([bench.write()])
    job = job_to_run(documents)
    job = replace(job, metadata=replace(job.metadata, uid=UID))
    if description is not None:
        job = described(job, description)
    planner = RoundPlanner(job, datasets_of(documents, job), models_of(documents, job))
    key = layout.model_key(max(0, number - 1))
    model = {"key": key, "digest": "sha256:" + "0" * 64, "size_bytes": 0}
    last = {"round": number - 1, "model": model, "state": {}}
    return planner.plan(start_of(job, Observed(last=last if number else None), now=0.0))


def template(workflow: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in workflow["spec"]["templates"] if each["name"] == name)


def dag(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {task["name"]: task for task in template(workflow, "round")["dag"]["tasks"]}


def steps(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in pod["containerSet"]["containers"]}


def variables(container: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def mounts(container: dict[str, Any]) -> dict[str, bool]:
    """Mount path -> whether it is read-only."""
    return {each["mountPath"]: each.get("readOnly", False) for each in container["volumeMounts"]}


def test_the_aggregation_program_is_asked_beside_initialize_and_may_fail(mover):
    workflow = compile_plan(planned(mover, 0), SETTING)
    tasks = dag(workflow)
    assert set(tasks) == {"describe", "server"}
    assert not tasks["describe"].get("depends")
    assert "describe.Failed" in tasks["server"]["depends"]
    assert "describe.Succeeded" in tasks["server"]["depends"]
    pod = template(workflow, "describe")
    assert list(steps(pod)) == ["describe", "tell"]
    assert pod["timeout"] == "360s"
    told = variables(steps(pod)["describe"])
    assert told["FEDLOOM_TASK"] == "describe"
    assert told["FEDLOOM_CLIENT"] == "aggregation"
    assert told["FEDLOOM_RESULT"] == "/fedloom/round/result.json"
    assert not told.keys() & {"FEDLOOM_MODEL", "FEDLOOM_UPDATE", "FEDLOOM_UPDATES"}


def test_the_arguments_of_a_container_are_passed_as_they_are(mover):
    workflow = compile_plan(planned(mover, 1), SETTING)
    args = [
        steps(each)["train"]["args"]
        for each in workflow["spec"]["templates"]
        if "containerSet" in each and "train" in steps(each)
    ]
    assert args == [["-i", "1"], ["-i", "2"], ["-i", "3"]]


@pytest.mark.parametrize(
    ("number", "pod", "container"), [(0, "server", "initialize"), (0, "describe", "describe")]
)
def test_a_container_in_the_cloud_finds_the_library(mover, number, pod, container):
    found = template(compile_plan(planned(mover, number), SETTING), pod)
    library = found["initContainers"][0]
    assert library["image"] == SETTING.steps_image
    assert [*library["command"], *library["args"]] == [
        "python", "-I", "-m", "components.library", LIBRARY
    ]  # fmt: skip
    assert mounts(library)[LIBRARY] is False
    users = steps(found)[container]
    assert mounts(users)[LIBRARY] is True
    assert variables(users)["PYTHONPATH"] == LIBRARY


def test_a_client_finds_the_library_that_fetch_brings_first_on_its_path(mover):
    worker = mover.spec["trainingWorkers"][0]["template"]["spec"]["containers"][0]
    worker["env"] = [{"name": "PYTHONPATH", "value": "/home/lib"}]
    workflow = compile_plan(planned(mover, 1), SETTING)
    pod = template(workflow, "client")
    fetch = pod["initContainers"][0]
    assert fetch["name"] == "fetch"
    assert fetch["args"][-2:] == ["--library", LIBRARY]
    assert mounts(fetch)[LIBRARY] is False
    assert mounts(steps(pod)["train"])[LIBRARY] is True
    assert variables(steps(pod)["train"])["PYTHONPATH"] == f"{LIBRARY}:/home/lib"
    assert LIBRARY not in mounts(steps(pod)["compress"])


def test_a_dispatched_client_finds_it_too(mover):
    setting = replace(SETTING, dispatched=frozenset({"a", "b", "c"}))
    (orders,) = dispatch_orders(planned(mover, 1), setting).values()
    spec = orders["shapes"][0]["spec"]["template"]["spec"]
    first = {each["name"]: each for each in spec["initContainers"]}
    assert first["fetch"]["args"][-2:] == ["--library", LIBRARY]
    assert variables(first["train"])["PYTHONPATH"] == LIBRARY
    assert {"name": "fedloom-sedna", "emptyDir": {}} in spec["volumes"]


def test_images_that_name_no_command_are_asked_by_their_own_entrypoint(mover):
    for worker in (mover.spec["aggregationWorker"], *mover.spec["trainingWorkers"]):
        del worker["template"]["spec"]["containers"][0]["command"]
    plan = planned(mover, 0)
    workflow = compile_plan(plan, SETTING)
    tasks = dag(workflow)
    assert set(tasks) == {"dispatch", "dispatch-2"}
    assert "dispatch.Failed" in tasks["dispatch-2"]["depends"]
    orders = [order for each in dispatch_orders(plan, SETTING).values() for order in each["orders"]]
    assert [(order["group"], order["may_fail"]) for order in orders] == [
        ("describe", True),
        ("server", False),
    ]


def test_the_program_combines_between_two_containers_of_ours(mover):
    workflow = compile_plan(planned(mover, 1, {"aggregation": "Mine", "rounds": 3}), SETTING)
    pod = template(workflow, "server")
    containers = steps(pod)
    assert list(containers) == ["unpack", "script", "aggregate", "commit"]
    assert containers["script"]["image"] == "x"
    assert containers["script"]["dependencies"] == ["unpack"]
    assert containers["aggregate"]["dependencies"] == ["script"]
    told = variables(containers["script"])
    assert {
        name: told[name] for name in told if name.startswith("FEDLOOM_") and "/" in told[name]
    } == {
        "FEDLOOM_MODEL": "/fedloom/round/model.safetensors",
        "FEDLOOM_UPDATES": "/fedloom/round/clients",
        "FEDLOOM_UPDATE": "/fedloom/round/update.safetensors",
        "FEDLOOM_RESULT": "/fedloom/round/result.json",
        "FEDLOOM_STATE": "/fedloom/edge",
    }
    assert (told["FEDLOOM_TASK"], told["FEDLOOM_ROUNDS"]) == ("aggregate", "3")
    assert "AWS_SECRET_ACCESS_KEY" not in told
    assert "AWS_SECRET_ACCESS_KEY" in variables(containers["aggregate"])


@pytest.mark.parametrize("number", [0, 1])
def test_a_job_of_fedlooms_own_has_nothing_of_all_this(mover, number):
    mover.spec["rounds"] = 3
    text = json.dumps(compile_plan(planned(mover, number), SETTING))
    assert "PYTHONPATH" not in text
    assert LIBRARY not in text
    assert "describe" not in text
    assert "script" not in text


def test_a_websocket_job_keeps_its_images_library(mover):
    mover.spec["compat"] = "websocket"
    text = json.dumps(compile_plan(planned(mover, 0), SETTING))
    assert "PYTHONPATH" not in text


def test_the_library_is_laid_out_whole_and_readable(tmp_path: Path):
    from components.library import compat_folder, deliver

    deliver(tmp_path)
    deliver(tmp_path)
    source = compat_folder()
    assert source is not None
    files = {path.relative_to(source) for path in (source / "sedna").rglob("*.py")}
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*.py")} == files
    assert all(path.stat().st_mode & 0o004 for path in tmp_path.rglob("*"))


def test_a_program_on_one_machine_finds_the_library_before_all_else():
    from components.library import compat_folder
    from components.program import module_path

    assert module_path({"PYTHONPATH": "/home/lib:/x"}) == f"{compat_folder()}:/home/lib:/x"
    assert module_path({}) == str(compat_folder())
