"""The CRDs are what the types say, take what Sedna takes, and refuse what reading refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fedloom.api.capabilities import ALGORITHMS, CODECS
from fedloom.api.crd import crds
from fedloom.api.documents import render_crd
from fedloom.api.reading import read_job
from fedloom.errors import InvalidJobError

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests" / "base" / "crds"
JOBS = "sedna.io_federatedlearningjobs.yaml"
PRESERVED = "x-kubernetes-preserve-unknown-fields"


def schema_of(name: str) -> dict:
    (version,) = crds()[name]["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def walk(schema: dict, path: str = ""):
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from walk(part, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


def refusals(schema: dict, value: object, path: str = "") -> list[str]:
    """A slow and small twin of the API server's validation; a field it would prune is refused."""
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    kind = types.get(schema["type"], (int, float))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        return [path]
    if isinstance(value, dict):
        return refusals_inside(schema, value, path)
    if isinstance(value, list):
        found = [path] if len(value) > schema.get("maxItems", len(value)) else []
        parts = (refusals(schema["items"], v, f"{path}[{i}]") for i, v in enumerate(value))
        return sum(parts, found)
    if isinstance(value, str):
        fits = len(value) <= schema.get("maxLength", len(value))
        fits = fits and re.search(schema.get("pattern", ""), value)
    else:
        least, most = schema.get("minimum", value), schema.get("maximum", value)
        fits = value > least if schema.get("exclusiveMinimum") else value >= least
        fits = fits and (value < most if schema.get("exclusiveMaximum") else value <= most)
    return [] if fits and value in schema.get("enum", [value]) else [path]


def refusals_inside(schema: dict, value: dict, path: str) -> list[str]:
    found = [f"{path}.{name}" for name in schema.get("required", []) if name not in value]
    for name, part in value.items():
        if name in schema.get("properties", {}):
            found += refusals(schema["properties"][name], part, f"{path}.{name}")
        elif "additionalProperties" in schema:
            found += refusals(schema["additionalProperties"], part, f"{path}.{name}")
        elif not schema.get(PRESERVED):
            found.append(f"{path}.{name}")
    return found


def test_the_manifests_are_what_the_types_say():
    written = {path.name: path.read_text() for path in MANIFESTS.glob("sedna.io_*.yaml")}
    made = {name: render_crd(document) for name, document in crds().items()}
    assert written == made, "`fedloom crds` writes them"


def test_there_are_three_kinds_of_one_group_and_version():
    kinds = {crd["spec"]["names"]["kind"]: crd for crd in crds().values()}
    assert set(kinds) == {"FederatedLearningJob", "Dataset", "Model"}
    for crd in kinds.values():
        names, (version,) = crd["spec"]["names"], crd["spec"]["versions"]
        assert crd["metadata"]["name"] == f"{names['plural']}.sedna.io"
        assert (crd["spec"]["group"], crd["spec"]["scope"]) == ("sedna.io", "Namespaced")
        assert (version["name"], version["subresources"]) == ("v1alpha1", {"status": {}})
        assert names["categories"] == ["sedna"]
    assert kinds["FederatedLearningJob"]["spec"]["names"]["shortNames"] == ["fl"]


def test_the_columns_are_the_designed_ones():
    (version,) = crds()[JOBS]["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    assert [each["name"] for each in columns if "priority" not in each] == [
        "Phase",
        "Round",
        "Clients",
        "Metric",
        "Age",
    ]
    assert [each["name"] for each in columns if each.get("priority")] == ["Workflow", "Run"]


@pytest.mark.parametrize("name", crds())
def test_columns_point_at_fields_that_there_are(name):
    (version,) = crds()[name]["spec"]["versions"]
    fields = {path for path, _ in walk(version["schema"]["openAPIV3Schema"])}
    for column in version["additionalPrinterColumns"]:
        path = column["jsonPath"]
        assert path in fields or path.startswith((".metadata.", ".status.metrics."))


@pytest.mark.parametrize("name", crds())
def test_a_crd_fits_into_the_annotation_of_kubectl_apply(name):
    assert len(json.dumps(crds()[name], separators=(",", ":"))) < 256 * 1024


@pytest.mark.parametrize("name", crds())
def test_a_schema_is_structural_and_explains_every_field(name):
    for path, schema in walk(schema_of(name)):
        assert schema["type"] in {"object", "array", "string", "integer", "number", "boolean"}
        assert not {"$ref", "anyOf", "oneOf", "allOf", "const", "uniqueItems"} & set(schema)
        assert schema.get("exclusiveMinimum", True) is True
        assert not ("properties" in schema and "additionalProperties" in schema)
        assert set(schema.get("required", ())) <= set(schema.get("properties", ()))
        is_own = not path.endswith(("[]", "{}")) and path != ".metadata"
        assert schema.get("description") or not is_own, path


@pytest.mark.parametrize("name", crds())
def test_a_default_is_a_value_that_the_field_takes(name):
    for path, schema in walk(schema_of(name)):
        if "default" in schema:
            assert refusals(schema, schema["default"]) == [], path
            assert path.startswith(".spec"), "the API server fills nothing into a status"


def test_every_text_that_a_rule_compares_is_bounded():
    algorithm = schema_of(JOBS)["properties"]["spec"]["properties"]["algorithm"]
    for path, schema in walk(algorithm):
        assert schema["type"] != "string" or "maxLength" in schema, path
        assert not schema.get(PRESERVED), path


def test_a_parameter_means_the_same_to_every_algorithm_that_takes_it():
    for catalogue in (ALGORITHMS, CODECS):
        taken = [pair for parameters in catalogue.values() for pair in parameters.items()]
        for name in dict(taken):
            same = {(p.description, p.bounds, p.is_integer) for key, p in taken if key == name}
            assert len(same) == 1, name


def test_a_schema_says_which_default_is_whose():
    algorithm = schema_of(JOBS)["properties"]["spec"]["properties"]["algorithm"]
    rate = algorithm["properties"]["parameters"]["properties"]["serverLearningRate"]
    assert "0.01 for fedadam, fedyogi; 0.03 for fedadagrad" in rate["description"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((), "trainingWorkers) == size(oldSelf.trainingWorkers)"),
        ((), "self.algorithm == oldSelf.algorithm"),
        ((), "self.participation.clientsPerRound <= size(self.trainingWorkers)"),
        ((), "self.output.savePolicy != 'best' || has(self.stopCondition)"),
        (("participation",), "self.minClients <= self.clientsPerRound"),
        (("stopCondition",), "has(self.threshold) || has(self.patience)"),
        (("output",), "!has(self.alias) || has(self.registeredModel)"),
    ],
)
def test_rules_over_several_fields_are_in_the_schema(place, words):
    schema = schema_of(JOBS)["properties"]["spec"]
    for name in place:
        schema = schema["properties"][name]
    rules = schema["x-kubernetes-validations"]
    assert any(words in rule["rule"] for rule in rules)
    assert all(rule["message"] for rule in rules)


SEDNA_TEMPLATE = {
    "metadata": {"labels": {"team": "vision"}},
    "spec": {
        "nodeName": "edge",
        "hostAliases": [{"ip": "10.0.0.1"}],
        "containers": [
            {
                "name": "train",
                "image": "a",
                "env": [{"name": "k", "value": "4"}],
                "anything": {"x": 1},
            }
        ],
    },
}
SEDNA_JOB = {
    "pretrainedModel": {"name": ""},
    "transmitter": {"ws": {}, "s3": {"aggDataPath": "s3://sedna/fl", "credentialName": "s"}},
    "aggregationWorker": {"model": {"name": "m"}, "template": SEDNA_TEMPLATE},
    "trainingWorkers": [{"dataset": {"name": "d"}, "template": SEDNA_TEMPLATE}] * 2,
}


@pytest.mark.parametrize(
    ("name", "document"),
    [
        pytest.param(JOBS, {"spec": SEDNA_JOB}, id="job"),
        pytest.param(JOBS, {"spec": {**SEDNA_JOB, "trainingWorkers": []}}, id="no-workers"),
        pytest.param(
            JOBS,
            {
                "spec": {
                    "aggregationWorker": {"model": {"name": "Any Name"}, "template": {}},
                    "trainingWorkers": [{"dataset": {"name": ""}, "template": {"metadata": {}}}],
                }
            },
            id="bare",
        ),
        pytest.param(
            JOBS,
            {
                "spec": SEDNA_JOB,
                "status": {
                    "phase": "Running",
                    "active": 1,
                    "startTime": "2025-03-06T00:00:00Z",
                    "conditions": [
                        {
                            "type": "Failed",
                            "status": "True",
                            "reason": "workerFailed",
                            "lastProbeTime": "2025-03-06T00:00:00Z",
                            "lastHeartbeatTime": "2025-03-06T00:00:00Z",
                        }
                    ],
                },
            },
            id="status",
        ),
        pytest.param(
            "sedna.io_datasets.yaml",
            {
                "spec": {
                    "url": "/data",
                    "format": "dir",
                    "nodeName": "$EDGE",
                    "credentialName": "s",
                },
                "status": {"numberOfSamples": 7, "updateTime": "2025-03-06T00:00:00Z"},
            },
            id="dataset",
        ),
        pytest.param(
            "sedna.io_models.yaml",
            {
                "spec": {"url": "/m", "format": "pb", "device_soc_versions": ["Ascend310"]},
                "status": {"metrics": [{"key": "accuracy", "value": "0.9"}]},
            },
            id="model",
        ),
    ],
)
def test_what_sedna_takes_is_taken(name, document):
    assert refusals(schema_of(name), document) == []


@pytest.mark.parametrize(
    "spec",
    [
        {"rounds": 0},
        {"rounds": "3"},
        {"rounds": True},
        {"rounds": 100_001},
        {"roundz": 3},
        {"participation": {"deadlineSeconds": 0}},
        {"participation": {"retries": -1}},
        {"participation": {"minClient": 1}},
        {"evaluation": {"everyRounds": 1}},
        {"evaluation": {"dataset": {"name": "t"}, "everyRounds": 0}},
        {"stopCondition": {"metric": "", "patience": 1}},
        {"stopCondition": {"metric": "a", "goal": "max", "patience": 1}},
        {"output": {"savePolicy": "all"}},
        {"output": {"registeredModel": "a:b"}},
        {"output": {"alias": "a b"}},
        {"engine": {"name": "flyte"}},
        {"edge": {"state": {"hostPath": "relative"}}},
        {"suspend": "no"},
        {"trainingWorkers": {}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_reading_refuses(job_document, spec):
    document = job_document(**spec)
    assert refusals(schema_of(JOBS), {"spec": document["spec"]})
    with pytest.raises(InvalidJobError):
        read_job(document)


def test_the_schema_takes_what_reading_takes(job_document):
    document = job_document(
        rounds=20,
        algorithm={"name": "fedavgm", "parameters": {"momentum": 0.9, "serverLearningRate": 1}},
        hyperparameters={"epochs": 1, "schedule": [1, 2]},
        compression={"uplink": {"codec": "int8", "blockSize": 64}, "downlink": {"codec": "none"}},
        participation={"clientsPerRound": 3, "minClients": 2, "deadlineSeconds": 0.5, "seed": 7},
        privacy={"clipNorm": 1.0, "noiseMultiplier": 1.1, "delta": 1e-5, "maxEpsilon": 8.0},
        transfer={"mode": "body", "from": [{"model": "a"}], "anchor": {"kind": "l2sp", "mu": 0.1}},
        evaluation={"dataset": {"name": "ward-test"}, "template": SEDNA_TEMPLATE},
        stopCondition={"metric": "accuracy", "threshold": 0.97, "patience": 5},
        output={"model": {"name": "m"}, "registeredModel": "digits", "alias": "champion"},
        engine={"name": "argo"},
        edge={"runtime": "dispatch", "state": {"hostPath": "/var/lib/fedloom"}},
        suspend=True,
    )
    assert refusals(schema_of(JOBS), {"spec": document["spec"]}) == []
    assert read_job(document).spec.transfer.sources[0].model == "a"
