"""The shape of a round whose aggregation several tasks share."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.api.defaults import with_defaults
from fedloom.api.reading import read_object
from fedloom.artifacts.layout import is_update
from pipelines.plan import Plan
from pipelines.rounds import RoundPlanner
from pipelines.start import Start

HEAD = {"apiVersion": "sedna.io/v1alpha1"}
MODEL = {"key": "round-0001/model.safetensors", "digest": "sha256:1", "size_bytes": 40}


def an_object(kind: str, name: str, spec: dict[str, Any]) -> Any:
    return read_object({**HEAD, "kind": kind, "metadata": {"name": name}, "spec": spec})


def plan_of(clients: int, attempt: int = 1, **aggregation: Any) -> Plan:
    template = {"spec": {"containers": [{"name": "t", "command": ["python", "t.py"]}]}}
    names = [f"d{number:05d}" for number in range(clients)]
    spec = {
        "rounds": 4,
        "aggregation": aggregation,
        "aggregationWorker": {"model": {"name": "m"}, "template": template},
        "trainingWorkers": [{"dataset": {"name": name}, "template": template} for name in names],
    }
    job = with_defaults(an_object("FederatedLearningJob", "j", spec))
    where = {"format": "txt", "nodeName": "n"}
    datasets = {name: an_object("Dataset", name, {"url": name, **where}) for name in names}
    return RoundPlanner(job, datasets, {}).plan(Start(2, attempt, tuple(names), 10.0, MODEL))


def of_step(plan: Plan, step: str) -> list[Any]:
    return [task for task in plan.tasks if task.step == step]


@settings(max_examples=30)
@given(st.integers(1, 200), st.sampled_from([2, 4, 8, 64]))
def test_a_tree_reaches_every_client_once_and_no_task_has_more_than_fan_in(clients, fan_in):
    plan = plan_of(clients, fanIn=fan_in)
    aggregate, combine = of_step(plan, "aggregate")[0], of_step(plan, "combine")
    by_found = {task.outputs["found"]: task for task in combine}
    if clients <= fan_in:
        assert combine == []
        return

    def clients_below(task: Any) -> list[str]:
        parts = task.settings.get("parts")
        if parts is None:
            assert task.depends == tuple(f"compress-{name}" for name in task.settings["reports"])
            assert len(task.depends) <= fan_in
            return list(task.settings["reports"])
        children = [by_found[part] for part in parts]
        assert task.depends == tuple(child.name for child in children)
        assert len(children) <= fan_in
        return [client for child in children for client in clients_below(child)]

    assert clients_below(aggregate) == list(plan.cohort)
    assert len({task.group for task in combine}) == len(combine)


def test_ten_thousand_clients_make_a_tree_of_three_levels_that_names_each_of_them_once():
    plan = plan_of(10_000, fanIn=64)
    names = [task.name for task in of_step(plan, "combine")]
    assert len(names) == 157 + 3
    assert names[156:158] == ["combine-1-0156", "combine-2-0000"]
    assert len(of_step(plan, "aggregate")[0].settings["parts"]) == 3
    combine = of_step(plan, "combine")
    assert sum(len(task.settings.get("reports", ())) for task in combine) == 10_000
    assert max(len(task.to_json()) for task in combine) < 15_000


def test_the_last_task_of_a_tree_has_the_outputs_of_one_aggregation():
    plan, flat = plan_of(9, fanIn=4), plan_of(9)
    one, other = of_step(plan, "aggregate")[0], of_step(flat, "aggregate")[0]
    assert (one.outputs, one.inputs, one.group) == (other.outputs, other.inputs, other.group)
    differing = {"parts", "reports"}
    assert {k: v for k, v in one.settings.items() if k not in differing} == {
        k: v for k, v in other.settings.items() if k not in differing
    }


@pytest.mark.parametrize("shards", [2, 5, 256])
def test_every_shard_waits_for_all_clients_and_the_last_task_for_every_shard(shards):
    plan = plan_of(7, shards=shards)
    tasks, aggregate = of_step(plan, "shard"), of_step(plan, "aggregate")[0]
    assert [task.settings["shard"] for task in tasks] == list(range(shards))
    sent = tuple(f"compress-{name}" for name in plan.cohort)
    assert {task.depends for task in tasks} == {sent}
    assert aggregate.depends == tuple(task.name for task in tasks)
    assert aggregate.settings["parts"] == [task.outputs["found"] for task in tasks]


def test_one_shard_is_no_shard():
    assert [task.name for task in plan_of(3, shards=1).tasks] == [
        task.name for task in plan_of(3).tasks
    ]


def test_a_plan_does_not_repeat_the_cohort_for_every_shard():
    few, many = (len(plan_of(1000, shards=shards).to_json()) for shards in (2, 12))
    depends = 1000 * len('"compress-d00000", ')
    assert (many - few) / 10 < 1.2 * depends + 2000


def test_commands_of_tasks_of_one_step_name_the_task():
    plan = plan_of(9, fanIn=4)
    assert [task.command[-4:] for task in of_step(plan, "combine")] == [
        ("--plan", "plan.json", "--task", f"combine-1-{index:04d}") for index in range(3)
    ]
    assert json.loads(plan.to_json())["tasks"][-3]["step"] == "combine"


def test_another_attempt_hands_on_under_other_keys():
    keys = [
        {
            key
            for task in of_step(plan_of(9, attempt, fanIn=4), "combine")
            for key in task.outputs.values()
        }
        for attempt in (1, 2)
    ]
    assert not keys[0] & keys[1]
    assert all(is_update(key) for key in keys[0] | keys[1])
