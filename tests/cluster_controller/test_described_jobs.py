"""A Sedna job on a cluster: from round 1 on it is what its aggregation program said in round 0."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.cluster.resources import EVENTS
from fedloom.artifacts import layout


@pytest.fixture
def start(bench: Any, make_job: Any, make_node: Any) -> Any:
    """Make a job with Sedna's fields only, and run its round 0 with this description."""

    def start_job(description: dict[str, Any]) -> None:
        for name, node in (("a", "edge-1"), ("b", "edge-2")):
            bench.apply(bench.dataset(name), make_node(node))
        document = make_job()
        del document["spec"]["rounds"]
        bench.apply(bench.model("m"), document)
        bench.look()
        bench.commit(0)
        key = layout.result_key(0)
        result = json.loads(bench.job_store.get(key)) | {"description": description}
        bench.job_store.put(key, json.dumps(result).encode(), replace=True)
        bench.end_workflow("r0-a1")
        bench.look()

    return start_job


def test_it_runs_the_rounds_and_the_aggregation_that_its_program_asked_for(bench, start):
    start({"rounds": 2, "aggregation": "Mine", "participants": 1})
    assert bench.workflows() == ["r0-a1", "r1-a1"]
    (event,) = [each for each in bench.cluster.all(EVENTS) if each["reason"] == "Described"]
    assert event["message"].endswith("aggregation Mine, participants 1, rounds 2")
    bench.round(1)
    assert bench.condition("Complete") != ("True", "RoundsDone")
    bench.round(2)
    assert bench.condition("Complete") == ("True", "RoundsDone")
    assert bench.status["aggregationCount"] == 2


def test_a_restarted_controller_reads_the_description_again(bench, start):
    start({"rounds": 3})
    bench.round(1)
    bench.restart()
    bench.look()
    assert bench.workflows() == ["r0-a1", "r1-a1", "r2-a1"]


def test_an_edit_in_mid_job_keeps_what_was_described(bench, start):
    start({"rounds": 3, "participants": 1})
    bench.edit(suspend=True)
    bench.round(1)
    assert bench.condition("Complete") != ("True", "RoundsDone")
    bench.edit(suspend=False)
    bench.look()
    bench.round(2, b="ScriptFailed")
    bench.round(3)
    assert bench.condition("Complete") == ("True", "RoundsDone")


def test_a_program_that_said_nothing_leaves_one_round(bench, start):
    start({"problem": "the aggregation worker's program wrote no description (see its log)"})
    bench.round(1)
    assert bench.condition("Complete") == ("True", "RoundsDone")


def test_a_description_that_cannot_be_run_fails_the_job_with_the_reason(bench, start):
    start({"algorithm": "fedmagic"})
    assert bench.condition("Failed") == ("True", "DescriptionRefused")
    assert bench.workflows() == ["r0-a1"]
    assert "fedmagic" in json.dumps(bench.status["conditions"])
