"""A round's plan: who does what, from what, after whom."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fedloom.api.dataset import Dataset
from fedloom.api.defaults import with_defaults
from fedloom.api.job import FederatedLearningJob
from fedloom.api.reading import read_object
from fedloom.errors import JobError
from pipelines.environment import hyperparameters_of, spellings
from pipelines.placement import place_client
from pipelines.plan import Placement, Plan, Task
from pipelines.rounds import RoundPlanner
from pipelines.start import Start

HEAD = {"apiVersion": "sedna.io/v1alpha1"}


def an_object(kind: str, name: str, spec: dict[str, Any]) -> Any:
    return read_object({**HEAD, "kind": kind, "metadata": {"name": name}, "spec": spec})


def a_template(**spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "t", "command": ["python", "t.py"]}], **spec}}


def a_job(clients: int = 3, **spec: Any) -> FederatedLearningJob:
    document = {
        "rounds": 4,
        "aggregationWorker": {"model": {"name": "m"}, "template": a_template()},
        "trainingWorkers": [
            {"dataset": {"name": f"d{n}"}, "template": a_template()} for n in range(clients)
        ],
        **spec,
    }
    return with_defaults(an_object("FederatedLearningJob", "j", document))


def a_planner(job: FederatedLearningJob) -> RoundPlanner:
    names = [worker.dataset.name for worker in job.spec.training_workers] + ["test"]
    datasets: dict[str, Dataset] = {
        name: an_object("Dataset", name, {"url": name, "format": "txt", "nodeName": f"node-{name}"})
        for name in names
    }
    models = {"m": an_object("Model", "m", {"url": "m.safetensors", "format": "safetensors"})}
    return RoundPlanner(job, datasets, models)


MODEL = {"key": "round-0001/model.safetensors", "digest": "sha256:1", "size_bytes": 40}
START = Start(2, 1, ("d0", "d1", "d2"), 10.0, MODEL)


def test_a_round_is_train_and_compress_per_client_then_the_server():
    plan = a_planner(a_job()).plan(START)
    assert [task.name for task in plan.tasks] == [
        "train-d0", "compress-d0", "train-d1", "compress-d1", "train-d2", "compress-d2",
        "aggregate", "commit",
    ]  # fmt: skip
    aggregate = plan.groups()["server"][0]
    assert aggregate.depends == ("compress-d0", "compress-d1", "compress-d2")
    assert all(task.may_fail == (task.client is not None) for task in plan.tasks)


def test_train_and_compress_of_a_client_share_one_node():
    groups = a_planner(a_job()).plan(START).groups()
    for name in ("d0", "d1", "d2"):
        train, compress = groups[f"client-{name}"]
        assert train.placement == compress.placement == Placement("edge", f"node-{name}")
        assert compress.depends == (train.name,)
        assert train.outputs == {}, "raw weights never leave the node"


def test_the_first_plan_makes_the_first_model():
    plan = a_planner(a_job()).plan(Start(0, 1, (), 10.0))
    assert [task.step for task in plan.tasks] == ["initialize", "commit"]
    assert plan.tasks[0].placement.side == "cloud"


def test_the_last_round_is_evaluated_whatever_the_interval():
    job = a_job(evaluation={"dataset": {"name": "test"}, "everyRounds": 3})
    planner = a_planner(job)
    evaluated = [
        number
        for number in range(1, 5)
        if any(t.step == "evaluate" for t in planner.plan(replace(START, round=number)).tasks)
    ]
    assert evaluated == [3, 4]


def test_the_same_arguments_give_the_same_plan_and_a_retry_the_same_seeds():
    job = a_job()
    first, again = (a_planner(job).plan(START).to_json() for _ in range(2))
    assert first == again
    retry = a_planner(job).plan(replace(START, attempt=2))
    seeds = [task.settings["seed"] for task in retry.tasks if "seed" in task.settings]
    assert seeds == [
        t["settings"]["seed"] for t in json.loads(first)["tasks"] if "seed" in t["settings"]
    ]


def test_seeds_differ_per_round_client_and_job_seed():
    seeds = set()
    for job_seed in (1, 2):
        planner = a_planner(a_job(participation={"seed": job_seed}))
        for number in (1, 2):
            plan = planner.plan(replace(START, round=number))
            seeds |= {task.settings["seed"] for task in plan.tasks if task.step == "train"}
    assert len(seeds) == 2 * 2 * 3
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_plan_of_ten_thousand_clients_is_one_dag():
    job = a_job(10_000)
    cohort = tuple(sorted(worker.dataset.name for worker in job.spec.training_workers))
    plan = a_planner(job).plan(replace(START, cohort=cohort))
    assert len(plan.tasks) == 20_002


def a_task(name: str, depends: tuple[str, ...] = (), outputs: dict[str, str] | None = None) -> Task:
    return Task(name, "s", name, None, depends, False, {}, outputs or {}, {}, Placement("cloud"))


BAD = {
    "twins": ([a_task("a"), a_task("a")], "two tasks are named 'a'"),
    "stranger": ([a_task("a", ("b",))], "depends on 'b'"),
    "circle": ([a_task("a", ("b",)), a_task("b", ("a",))], "circle"),
    "one-key": (
        [a_task("a", outputs={"x": "k"}), a_task("b", outputs={"x": "k"})],
        "two tasks write 'k'",
    ),
}


@pytest.mark.parametrize(("tasks", "words"), BAD.values(), ids=BAD)
def test_tasks_that_are_no_dag_are_refused(tasks, words):
    with pytest.raises(JobError, match=words):
        Plan({}, 1, 1, 1, (), tuple(tasks))


def test_the_templates_node_wins_over_the_datasets():
    job = a_job(1)
    template = job.spec.training_workers[0].template
    assert place_client(template, "edge-9").node_name == "edge-9"
    pinned = replace(template, raw=a_template(nodeName="edge-1"))
    assert place_client(pinned, "edge-9").node_name == "edge-1"
    selected = replace(template, raw=a_template(nodeSelector={"zone": "north"}))
    assert place_client(selected, "edge-9") == Placement("edge", None, {"zone": "north"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("batchSize", ("batchSize", "batch_size", "BATCH_SIZE")),
        ("epochs", ("epochs", "EPOCHS")),
        ("learning_rate", ("learning_rate", "LEARNING_RATE")),
        ("EPOCHS", ("EPOCHS", "epochs")),
    ],
)
def test_spellings_of_a_hyperparameter(name, expected):
    assert spellings(name) == expected


def test_a_variable_of_the_worker_wins_and_keeps_its_type():
    job = a_job(1, hyperparameters={"batchSize": 32, "name": "x"})
    raw = a_template()
    raw["spec"]["containers"][0]["env"] = [
        {"name": "BATCH_SIZE", "value": "8"},
        {"name": "name", "value": "y z"},
    ]
    template = replace(job.spec.training_workers[0].template, raw=raw)
    assert hyperparameters_of(job, template) == {"batchSize": 8, "name": "y z"}
