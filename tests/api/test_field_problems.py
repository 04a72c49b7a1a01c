"""Everything that one field can have wrong is said, with the field, what was got and expected."""

from __future__ import annotations

import math

import pytest

from fedloom.api.reading import read_job


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        pytest.param({"round": 3}, "spec.round", "did you mean 'rounds'?", id="misspelt"),
        pytest.param(
            {"stop_condition": {}},
            "spec.stop_condition",
            "did you mean 'stopCondition'",
            id="snake",
        ),
        pytest.param({"xyzzy": 3}, "spec.xyzzy", "expected aggregationWorker, ", id="unknown"),
        pytest.param(
            {"participation": {"minClient": 2}},
            "spec.participation.minClient",
            "did you mean 'minClients'?",
            id="nested",
        ),
        pytest.param(
            {"transmitter": {"ws": {"port": 1}}}, "spec.transmitter.ws.port", "unknown", id="ws"
        ),
        pytest.param({"rounds": "5"}, "spec.rounds", "leave out the quotes", id="quoted-number"),
        pytest.param(
            {"rounds": "five"}, "spec.rounds", "got 'five' (text), expected an integer", id="text"
        ),
        pytest.param(
            {"rounds": True}, "spec.rounds", "got true (a boolean)", id="boolean-as-integer"
        ),
        pytest.param(
            {"rounds": 5.0}, "spec.rounds", "leave out the decimals", id="float-as-integer"
        ),
        pytest.param(
            {"rounds": 0}, "spec.rounds", "got 0 (an integer), expected at least 1", id="zero"
        ),
        pytest.param({"rounds": -3}, "spec.rounds", "expected at least 1", id="negative"),
        pytest.param({"rounds": 100_001}, "spec.rounds", "at most 100000", id="too-many"),
        pytest.param({"rounds": 10**5000}, "spec.rounds", "got a huge integer", id="huge"),
        pytest.param({"rounds": [1]}, "spec.rounds", "got a list, expected an integer", id="list"),
        pytest.param(
            {"suspend": "yes"}, "spec.suspend", "expected true or false", id="text-as-boolean"
        ),
        pytest.param({"suspend": 1}, "spec.suspend", "got 1 (an integer)", id="integer-as-boolean"),
        pytest.param(
            {"participation": {"deadlineSeconds": math.nan}},
            "spec.participation.deadlineSeconds",
            "got nan (a number), expected a finite number",
            id="nan",
        ),
        pytest.param(
            {"participation": {"deadlineSeconds": math.inf}},
            "spec.participation.deadlineSeconds",
            "expected a finite number",
            id="inf",
        ),
        pytest.param(
            {"participation": {"deadlineSeconds": 0}},
            "spec.participation.deadlineSeconds",
            "expected more than 0",
            id="no-time",
        ),
        pytest.param(
            {"participation": {"deadlineSeconds": True}},
            "spec.participation.deadlineSeconds",
            "got true (a boolean), expected a number",
            id="boolean-as-number",
        ),
        pytest.param(
            {"participation": {"retries": -1}},
            "spec.participation.retries",
            "at least 0",
            id="retries",
        ),
        pytest.param(
            {"participation": {"seed": -1}}, "spec.participation.seed", "at least 0", id="seed"
        ),
        pytest.param(
            {"participation": [3]},
            "spec.participation",
            "got a list, expected a mapping",
            id="mapping",
        ),
        pytest.param(
            {"evaluation": {"dataset": {"name": "t"}, "everyRounds": 0}},
            "spec.evaluation.everyRounds",
            "at least 1",
            id="every-rounds",
        ),
        pytest.param({"evaluation": {}}, "spec.evaluation.dataset", "missing", id="missing-inside"),
        pytest.param(
            {"stopCondition": {"metric": "a", "goal": "max", "patience": 1}},
            "spec.stopCondition.goal",
            "got 'max' (text), expected maximize or minimize",
            id="goal",
        ),
        pytest.param(
            {"stopCondition": {"metric": "a", "patience": 0}},
            "spec.stopCondition.patience",
            "at least 1",
            id="patience",
        ),
        pytest.param(
            {"output": {"savePolicy": "all"}},
            "spec.output.savePolicy",
            "expected last, best or every",
            id="save-policy",
        ),
        pytest.param(
            {"output": {"registeredModel": "a/b"}},
            "spec.output.registeredModel",
            "a name without '/' and ':'",
            id="registered-model",
        ),
        pytest.param(
            {"output": {"registeredModel": " .. "}},
            "spec.output.registeredModel",
            "a name",
            id="dots",
        ),
        pytest.param(
            {"output": {"alias": "best one"}}, "spec.output.alias", "letters, digits", id="alias"
        ),
        pytest.param(
            {"engine": {"name": "flyte"}}, "spec.engine.name", "expected argo or kfp", id="engine"
        ),
        pytest.param(
            {"edge": {"state": {"hostPath": "var/lib"}}},
            "spec.edge.state.hostPath",
            "expected an absolute path",
            id="host-path",
        ),
        pytest.param(
            {"algorithm": {"name": "fedavg", "parameters": {"momentum": [1]}}},
            "spec.algorithm.parameters.momentum",
            "got a list",
            id="parameter-type",
        ),
        pytest.param(
            {"algorithm": "fedavg"}, "spec.algorithm", "expected a mapping", id="flat-algorithm"
        ),
        pytest.param(
            {"hyperparameters": {"learningRate": math.inf}},
            "spec.hyperparameters.learningRate",
            "expected a finite number",
            id="hyperparameter",
        ),
        pytest.param(
            {"hyperparameters": {"start": {1, 2}}},
            "spec.hyperparameters.start",
            "got a set, expected a value that JSON has",
            id="not-json",
        ),
        pytest.param(
            {"hyperparameters": {2: 3}},
            "spec.hyperparameters['2 (an integer)']",
            "expected text",
            id="name-that-is-no-text",
        ),
        pytest.param(
            {"transmitter": {"ws": True}},
            "spec.transmitter.ws",
            "expected an empty mapping {}",
            id="ws-boolean",
        ),
        pytest.param(
            {"transfer": {"from": [{"model": "a"}] * 17}},
            "spec.transfer.from",
            "expected at most 16 entries",
            id="too-many-sources",
        ),
        pytest.param(
            {"pretrainedModel": {}},
            "spec.pretrainedModel.name",
            "missing, expected text",
            id="reference",
        ),
        pytest.param(
            {"trainingWorkers": None},
            "spec.trainingWorkers",
            "missing, expected a list",
            id="no-list",
        ),
        pytest.param(
            {"trainingWorkers": {}}, "spec.trainingWorkers", "expected a list", id="no-workers-list"
        ),
        pytest.param(
            {
                "trainingWorkers": [
                    {"dataset": {"name": 7}, "template": {"spec": {"containers": [{"name": "a"}]}}}
                ]
            },
            "spec.trainingWorkers[0].dataset.name",
            "got 7 (an integer), expected text: put it in quotes",
            id="number-as-text",
        ),
    ],
)
def test_a_field_that_is_wrong_is_named(problems_of, job_document, spec, field, message):
    found = problems_of(job_document(**spec))
    assert list(found) == [field]
    assert message in found[field]


@pytest.mark.parametrize(
    ("template", "field", "message"),
    [
        pytest.param(None, "", "missing", id="missing"),
        pytest.param("image", "", "expected a pod template", id="text"),
        pytest.param({}, ".spec.containers", "got nothing", id="empty"),
        pytest.param({"spec": []}, ".spec.containers", "at least one container", id="spec-list"),
        pytest.param(
            {"spec": {"containers": []}}, ".spec.containers", "got an empty list", id="none"
        ),
        pytest.param(
            {"spec": {"containers": {}}}, ".spec.containers", "got a mapping", id="mapping"
        ),
        pytest.param(
            {"spec": {"containers": ["a"]}}, ".spec.containers[0]", "expected a mapping", id="item"
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "a"}, {}]}},
            ".spec.containers[1].name",
            "got nothing, expected a name",
            id="nameless",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "a"}], "priority": math.nan}},
            ".spec.priority",
            "expected a finite number",
            id="nan",
        ),
    ],
)
def test_a_template_needs_named_containers(problems_of, job_document, template, field, message):
    document = job_document()
    document["spec"]["trainingWorkers"][1]["template"] = template
    found = problems_of(document)
    path = f"spec.trainingWorkers[1].template{field}"
    assert list(found) == [path]
    assert message in found[path]


@pytest.mark.parametrize("version", [None, "sedna.io/v1", "v1", 1], ids=str)
def test_another_api_version_is_refused(problems_of, job_document, version):
    document = job_document() | {"apiVersion": version}
    assert "expected 'sedna.io/v1alpha1'" in problems_of(document)["apiVersion"]


def test_every_problem_is_said_at_once(problems_of, job_document):
    document = job_document(rounds="x", suspend=3, roundz=1, engine={"name": "x"})
    document["metadata"]["name"] = "UP"
    document["spec"]["trainingWorkers"][2]["dataset"] = {}
    assert set(problems_of(document)) == {
        "metadata.name",
        "spec.rounds",
        "spec.suspend",
        "spec.roundz",
        "spec.engine.name",
        "spec.trainingWorkers[2].dataset.name",
    }


def test_a_name_that_is_no_identifier_is_shown_quoted(problems_of, job_document):
    assert list(problems_of(job_document(**{"a b.c": 1}))) == ["spec['a b.c']"]


def test_nesting_without_end_is_refused(problems_of, job_document):
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    assert "nested too deeply" in problems_of(job_document(hyperparameters={"a": deep}))[""]


def test_a_dataset_is_not_read_as_a_job(problems_of, other_documents):
    assert "expected 'FederatedLearningJob'" in problems_of(other_documents[0], read_job)["kind"]
