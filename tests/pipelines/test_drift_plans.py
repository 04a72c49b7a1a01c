"""What clients are told beside the model: only what the job needs, and what it costs is counted."""

from __future__ import annotations

import pytest

from fedloom.api.defaults import with_defaults
from fedloom.api.reading import read_object
from pipelines.rounds import RoundPlanner
from pipelines.start import Start

MODEL = {"key": "round-0002/model.safetensors", "digest": "sha256:2", "size_bytes": 1000}
FIRST = {"key": "round-0000/model.safetensors", "digest": "sha256:0", "size_bytes": 900}
VARIATE = {"key": "state/control-variate-0002.safetensors", "digest": "sha256:c", "size_bytes": 70}

TEMPLATE = {"spec": {"containers": [{"name": "t", "command": ["python", "t.py"]}]}}


def an_object(kind, name, spec):
    head = {"apiVersion": "sedna.io/v1alpha1", "kind": kind, "metadata": {"name": name}}
    return read_object({**head, "spec": spec})


def tasks_of(spec, states=None):
    """Give the tasks of round 3 by name."""
    document = {
        "rounds": 5,
        "hyperparameters": {"learningRate": 0.1},
        "aggregationWorker": {"model": {"name": "m"}, "template": TEMPLATE},
        "trainingWorkers": [{"dataset": {"name": n}, "template": TEMPLATE} for n in "ab"],
        **spec,
    }
    job = with_defaults(an_object("FederatedLearningJob", "j", document))
    datasets = {
        n: an_object("Dataset", n, {"url": n, "format": "txt", "nodeName": n}) for n in "ab"
    }
    models = {"m": an_object("Model", "m", {"url": "m", "format": "safetensors"})}
    start = Start(
        round=3,
        attempt=1,
        cohort=("a", "b"),
        started=0.0,
        model=MODEL,
        states=states or {},
        accepted={"a": "sha256:a"},
        first_model=FIRST,
    )
    tasks = RoundPlanner(job, datasets, models).plan(start).tasks
    return {task.name: task for task in tasks}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"algorithm": {"name": "fednova"}},
        {"algorithm": {"name": "fedprox", "parameters": {"proximalMu": 0}}},
        {"transfer": {"anchor": {"mu": 0}}},
    ],
)
def test_a_job_that_corrects_nothing_is_told_nothing(spec):
    tasks = tasks_of(spec)
    for name in ("train-a", "compress-a"):
        assert "drift" not in tasks[name].settings
        assert list(tasks[name].inputs) == ["model"]
    assert "control" not in tasks["aggregate"].settings


def test_scaffold_s_variate_goes_to_both_steps_of_the_client_and_counts():
    spec = {"algorithm": {"name": "scaffold"}}
    first = tasks_of(spec)
    assert list(first["train-a"].inputs) == ["model"]
    assert first["compress-a"].settings["downlink_bytes"] == 1000
    tasks = tasks_of(spec, {"control-variate": VARIATE})
    for name in ("train-a", "compress-a", "aggregate"):
        assert tasks[name].inputs["control-variate"] == {
            "key": VARIATE["key"],
            "digest": "sha256:c",
        }
    assert tasks["compress-a"].settings["downlink_bytes"] == 1070
    assert tasks["train-a"].settings["drift"] == {"accepted": "sha256:a", "learning_rate": 0.1}
    assert tasks["train-b"].settings["drift"]["accepted"] is None
    assert tasks["aggregate"].settings["control"] == {"clients": 2}
    key = "state/control-variate-0003.safetensors"
    assert tasks["aggregate"].outputs["control-variate"] == key


def test_an_anchor_is_an_input_of_train_alone_and_counted_where_it_is_fetched():
    tasks = tasks_of({"transfer": {"anchor": {"mu": 0.5}}})
    assert tasks["train-a"].inputs["anchor"] == {"key": FIRST["key"], "digest": "sha256:0"}
    assert list(tasks["compress-a"].inputs) == ["model"]
    assert tasks["compress-a"].settings["downlink_bytes"] == 1000
    drift = tasks["train-a"].settings["drift"]
    assert drift == {"accepted": "sha256:a", "pulls": {"anchor": 0.5}, "anchor_bytes": 900}


def test_pulls_and_own_tensors_are_told_together():
    tasks = tasks_of({"algorithm": {"name": "fedprox"}, "transfer": {"anchor": {"mu": 0.5}}})
    assert tasks["train-a"].settings["drift"]["pulls"] == {"proximal": 0.1, "anchor": 0.5}
    tasks = tasks_of({"aggregation": {"exclude": ["bn.*"]}})
    assert tasks["compress-a"].settings["drift"]["local_tensors"] == ["bn.*"]
