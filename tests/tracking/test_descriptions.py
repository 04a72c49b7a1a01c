"""A job as tracking knows it."""

import json
from dataclasses import replace

import pytest

from fedloom.errors import JobError
from fedloom.tracking.null_tracker import NullTracker
from fedloom.tracking.tracker import JobDescription, checked_status


def test_a_description_survives_json(job):
    assert JobDescription.from_json(json.loads(json.dumps(job.as_json()))) == job


def test_a_description_needs_only_what_has_no_default():
    value = {"namespace": "fl", "name": "j", "uid": "u", "rounds": 1, "parameters": {}}
    found = JobDescription.from_json(value)
    assert found.requirements == ("numpy", "safetensors")
    assert found.registered_model is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"alias_": "x"}, id="unknown field"),
        pytest.param({"datasets": [{"nom": "x"}]}, id="unknown field of a dataset"),
        pytest.param({"datasets": ["x"]}, id="dataset is a word"),
    ],
)
def test_a_malformed_description_is_refused(job, change):
    with pytest.raises(JobError, match="description: got"):
        JobDescription.from_json(job.as_json() | change)


def test_a_description_without_its_uid_is_refused(job):
    value = job.as_json()
    del value["uid"]
    with pytest.raises(JobError, match="uid"):
        JobDescription.from_json(value)


def test_another_status_is_refused():
    with pytest.raises(JobError, match="got 'Done', expected FINISHED"):
        checked_status("Done")


def rounds(*values):
    """Rounds from 0 whose metric m has these values; None where it was not measured."""
    return [
        {"round": number, "metrics": {} if value is None else {"m": value}}
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("policy", "goal", "values", "champion"),
    [
        pytest.param("last", "maximize", (None, 0.9, 0.1), 2, id="last"),
        pytest.param("every", "maximize", (None, 0.9, 0.1), 2, id="every: the last"),
        pytest.param("best", "maximize", (None, 0.5, 0.9, 0.1), 2, id="best"),
        pytest.param("best", "minimize", (None, 0.5, 0.9, 0.1), 3, id="best is least"),
        pytest.param("best", "maximize", (None, 0.9, 0.9), 1, id="first of equals"),
        pytest.param("best", "maximize", (None, None, 0.3, None), 2, id="measured sometimes"),
        pytest.param("best", "maximize", (None, None, None), 2, id="never measured: the last"),
        pytest.param("best", "minimize", (None, float("nan"), 0.9), 2, id="NaN is not best"),
        pytest.param("best", "maximize", (None, float("inf"), 0.9), 2, id="infinite is not best"),
        pytest.param("best", "maximize", (5.0, 0.1), 1, id="round 0 never"),
    ],
)
def test_the_champion_is_what_the_save_policy_says(job, policy, goal, values, champion):
    job = replace(job, save_policy=policy, best_metric="m", best_goal=goal)
    results = rounds(*values)
    assert job.champion(results)["round"] == champion
    one_by_one = None
    for result in results:  # as publish does it
        one_by_one = job.champion([one_by_one, result] if one_by_one else [result])
    assert one_by_one["round"] == champion


def test_a_job_with_round_0_only_has_no_champion(job):
    assert job.champion(rounds(0.5)) is None


def test_the_null_tracker_keeps_nothing_and_gives_versions(job, round_result, weights):
    tracker = NullTracker()
    assert tracker.begin(job).url is None
    tracker.record([round_result(1)])
    versions = [tracker.register(round_result(n), weights(n)) for n in (1, 2, 1)]
    assert versions == ["1", "2", "1"]
    tracker.finish("FINISHED", 2)
