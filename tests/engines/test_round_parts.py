"""A round that one Workflow cannot hold: which parts it is cut into, and when a part has ended."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest

from fedloom.errors import JobError
from pipelines.engines import argo, argo_secrets
from pipelines.engines.argo import compile_plan, compile_round
from pipelines.engines.argo_parts import has_ended, is_held, is_whole, part_of
from pipelines.engines.argo_status import run_status

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}


def tasks(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return workflow["spec"]["templates"][0]["dag"]["tasks"]


def clients(workflow: dict[str, Any]) -> list[str]:
    found = []
    for task in tasks(workflow):
        items = task.get("withItems") or [
            {each["name"]: each["value"] for each in task["arguments"]["parameters"]}
        ]
        found += [item["client"] for item in items]
    return found


def test_ten_thousand_clients_are_three_workflows_and_the_servers_in_seconds(
    planned, crowd, setting
):
    plan = planned(crowd(10_000))
    import hera.workflows  # noqa: F401 (half a second, once per process)

    started = time.process_time()
    made = list(compile_round(plan, setting))
    assert time.process_time() - started < 10
    server, *parts = [workflow for _, workflow in made]
    assert [part_of(workflow) for workflow in (server, *parts)] == [0, 1, 2, 3]
    names = [workflow["metadata"]["name"] for workflow in (server, *parts)]
    assert names == ["digits-8c2f1a77-r1-a1", *(f"digits-8c2f1a77-r1-a1-p{n}" for n in (1, 2, 3))]
    assert [each["name"] for each in tasks(server)] == ["server"]
    assert "depends" not in tasks(server)[0]
    found = [clients(part) for part in parts]
    assert [name for each in found for name in each] == sorted(plan.cohort)
    assert all(len(each) <= 4_000 == argo.MOST_CLIENTS for each in found)
    assert all(len(json.dumps(part)) < 450_000 for part in parts)
    assert is_held(server)
    assert not any(is_held(part) or "suspend" in part["spec"] for part in parts)
    assert not is_whole(server, parts[:2])
    assert is_whole(server, parts)


def test_each_part_has_secrets_of_its_own_and_the_server_knows_everybody(
    planned, crowd, setting, monkeypatch
):
    monkeypatch.setattr(argo, "MOST_CLIENTS", 100)
    plan = planned(crowd(150))
    made = list(compile_round(plan, setting))
    for part, workflow in made[1:]:
        secrets = argo_secrets.client_secrets(part, setting, lambda _: {"get": {}, "put": {}})
        name = workflow["metadata"]["name"]
        assert all(each["metadata"]["name"].startswith(f"{name}-edge-") for each in secrets)
        assert f'"secretName": "{name}-edge-' in json.dumps(workflow)
        files = {key for each in secrets for key in each["data"]}
        assert files >= {f"{client}.json" for client in part.cohort}
    told = argo_secrets.server_secret(made[0][0], setting, KEYS)["data"]["plan.json"]
    data = base64.b64decode(told)
    document = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    assert document["cohort"] == list(plan.cohort)
    aggregate = next(task for task in document["tasks"] if task["step"] == "aggregate")
    assert set(aggregate["settings"]["reports"]) == set(plan.cohort)


def test_what_the_cloud_is_told_of_very_many_clients_is_packed_and_its_steps_read_it(
    planned, crowd, setting, tmp_path, monkeypatch
):
    monkeypatch.setattr(argo_secrets, "MOST_BYTES", 40_000)
    server = planned(crowd(500))
    data = base64.b64decode(argo_secrets.server_secret(server, setting, KEYS)["data"]["plan.json"])
    (tmp_path / "plan.json").write_bytes(data)
    command = [sys.executable, "-m", "components.combine", "--plan", str(tmp_path / "plan.json")]
    where = ["--store", f"file://{tmp_path}/store", "--workdir", str(tmp_path), "--task", "x"]
    run = subprocess.run([*command, *where], capture_output=True, check=False)
    assert json.loads(run.stdout)["reason"] == "NoSuchTask"


def test_up_to_the_limit_nothing_is_cut(planned, example, setting, monkeypatch):
    monkeypatch.setattr(argo, "MOST_CLIENTS", 3)
    plan = planned(example)
    ((whole, workflow),) = compile_round(plan, setting)
    assert whole is plan
    assert workflow == compile_plan(plan, setting)
    assert "fedloom.io/part" not in json.dumps(workflow)


def test_what_one_workflow_has_no_room_for_is_cut_too(planned, crowd, setting):
    documents = crowd(600)
    template = json.dumps(documents[0]["spec"]["trainingWorkers"][0]["template"])
    for number, each in enumerate(documents[0]["spec"]["trainingWorkers"]):
        each["template"] = json.loads(template)
        each["template"]["spec"]["containers"][0]["env"] = [{"name": "N", "value": str(number)}]
    plan = planned(documents)
    with pytest.raises(JobError, match="Let trainingWorkers share one template"):
        compile_plan(plan, setting)
    _, *parts = [workflow for _, workflow in compile_round(plan, setting)]
    assert len(parts) > 1
    assert sorted(name for part in parts for name in clients(part)) == sorted(plan.cohort)


def test_a_servers_part_that_is_too_large_is_refused(planned, example, setting, monkeypatch):
    monkeypatch.setattr("pipelines.engines.argo_checks.MOST_BYTES", 4_000)
    with pytest.raises(JobError) as caught:
        list(compile_round(planned(example), setting))
    assert caught.value.reason == "WorkflowTooLarge"


@pytest.mark.parametrize(
    "change",
    [{"privacy": {"secureAggregation": True, "clipNorm": 1.0}}, {"compat": "websocket"}],
    ids=["secure aggregation", "websocket"],
)
def test_clients_who_need_the_server_in_mid_round_stay_in_one_workflow(
    change, planned, example, setting, monkeypatch
):
    monkeypatch.setattr(argo, "MOST_CLIENTS", 2)
    example[0]["spec"].update(change)
    del example[0]["spec"]["compression"]
    if "compat" in change:
        del example[0]["spec"]["algorithm"]
    with pytest.raises(JobError, match=r"got 3 clients who need .* expected at most 2") as caught:
        list(compile_round(planned(example), setting))
    assert caught.value.reason == "TooManyClients"


def test_trees_and_shards_are_all_in_the_servers_part(planned, example, setting, monkeypatch):
    monkeypatch.setattr(argo, "MOST_CLIENTS", 2)
    example[0]["spec"]["aggregation"] = {"rule": "mean", "fanIn": 2}
    server, *parts = [workflow for _, workflow in compile_round(planned(example), setting)]
    found = {task["name"]: task.get("depends", "") for task in tasks(server)}
    assert found == {
        "combine-1-0000": "",
        "combine-1-0001": "",
        "server": "combine-1-0000.Succeeded && combine-1-0001.Succeeded",
    }
    assert [clients(part) for part in parts] == [["digits-1"], ["digits-2", "digits-3"]]


def test_dispatched_clients_of_a_part_have_a_dispatcher_of_their_own(
    planned, example, setting, monkeypatch
):
    monkeypatch.setattr(argo, "MOST_CLIENTS", 2)
    away = replace(setting, dispatched=frozenset({"digits-1", "digits-3"}))
    made = [(part, workflow) for part, workflow in compile_round(planned(example), away)]
    awaited = [w["metadata"]["annotations"].get("fedloom.io/awaited") for _, w in made]
    assert awaited == [None, "1", "2"]
    orders = [argo_secrets.dispatch_secrets(part, away) for part, _ in made]
    assert [[each["metadata"]["name"][-14:] for each in own] for own in orders] == [
        [],
        ["-p1-dispatch-0"],
        ["-p2-dispatch-0"],
    ]


def node(name: str, phase: str, client: str | None = None, **more: Any) -> dict[str, Any]:
    given = {"inputs": {"parameters": [{"name": "client", "value": client}]}} if client else {}
    kind = "Pod" if client else "Retry"
    made = {"id": f"wf-{name}", "name": f"wf.{name}", "type": kind, "phase": phase}
    return {**made, "templateName": "client", **given, **more}


@pytest.mark.parametrize(
    ("phase", "nodes", "expected"),
    [
        ("", [], False),
        ("Running", [node("client-a", "Succeeded", "a"), node("b", "Running", "b")], False),
        ("Running", [node("client-a", "Failed", "a"), node("b", "Succeeded", "b")], True),
        # Argo 3.7 may write a pod that it has given up down as Pending, and stay open.
        (
            "Running",
            [
                node("a", "Succeeded", "a"),
                node("b", "Pending", "b", finishedAt="2026-01-01T00:00:00Z"),
            ],
            True,
        ),
        ("Running", [node("a", "Succeeded", "a"), node("dispatch", "Running")], False),
        ("Running", [node("a", "Succeeded", "a"), node("dispatch", "Succeeded")], True),
        ("Failed", [], True),
        ("Succeeded", [node("a", "Succeeded", "a")], True),
    ],
)
def test_a_part_has_ended_when_its_clients_have(phase, nodes, expected):
    part = {
        "metadata": {"name": "wf", "annotations": {"fedloom.io/awaited": "2"}},
        "status": {"phase": phase, "nodes": {each["id"]: each for each in nodes}},
    }
    assert has_ended(part, run_status(part)) is expected
