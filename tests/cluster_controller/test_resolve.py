"""From the objects of a cluster to a job that can be run, or to what is wrong with it."""

from __future__ import annotations

import base64

import pytest

from controller.cluster.resolve import names_of, resolve
from controller.cluster.resources import DATASETS, MODELS, SECRETS


class Objects:
    """What is there, by (resource, name)."""

    def __init__(self, nodes=None):
        self.known = {}
        self._nodes = nodes

    def get(self, resource, namespace, name):
        return self.known.get((resource, namespace, name))

    def nodes(self):
        return self._nodes

    def add(self, resource, name, spec=None, **more):
        meta = {"name": name, "namespace": "ns", **more.pop("metadata", {})}
        document = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}
        self.known[resource, "ns", name] = document | ({"spec": spec} if spec else {}) | more


def dataset(node="edge-1"):
    return {"url": "/data", "format": "dir", "nodeName": node}


MODEL = {"url": "/models/m", "format": "safetensors"}
S3 = {"s3": {"aggDataPath": "s3://bucket/x", "credentialName": "keys"}}


@pytest.fixture
def objects(make_node):
    found = Objects([make_node("edge-1"), make_node("edge-2", zone="north")])
    found.add(DATASETS, "a", dataset())
    found.add(DATASETS, "b", dataset("edge-2"))
    found.add(MODELS, "m", MODEL)
    return found


def secret(objects, **entries):
    data = {key: base64.b64encode(value.encode()).decode() for key, value in entries.items()}
    objects.add(SECRETS, "keys", data=data)


def test_a_job_whose_references_are_all_there_has_its_defaults(make_job, objects):
    found = resolve(make_job(), objects)
    assert found.is_complete
    assert found.job.spec.algorithm.name == "fedavg"
    assert found.job.spec.participation.min_clients == 2
    assert found.job.metadata.uid.startswith("38bc8f64")
    assert set(found.datasets) == {"a", "b"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"rounds": 0}, "spec.rounds", id="rounds"),
        pytest.param({"trainingWorkers": []}, "at least one client", id="no clients"),
        pytest.param(
            {"stopCondition": {"metric": "accuracy"}}, "spec.stopCondition", id="stop condition"
        ),
        pytest.param({"colour": "red"}, "colour", id="unknown field"),
    ],
)
def test_an_invalid_spec_is_not_accepted_and_the_field_is_named(make_job, objects, change, said):
    found = resolve(make_job(**change), objects)
    assert found.job is None
    assert found.invalid.reason == "Invalid"
    assert said in found.invalid.message


def test_all_problems_are_told_at_once(make_job, objects):
    document = make_job(rounds=0, participation={"clientsPerRound": 0})
    document["spec"]["trainingWorkers"][0]["template"]["spec"]["containers"] = []
    message = resolve(document, objects).invalid.message
    for field in ("spec.rounds", "clientsPerRound", "trainingWorkers[0]"):
        assert field in message


def test_problems_between_fields_are_told_too(make_job, objects):
    document = make_job(participation={"clientsPerRound": 9})
    del document["spec"]["trainingWorkers"][0]["template"]["spec"]["containers"][0]["image"]
    message = resolve(document, objects).invalid.message
    assert "spec.participation.clientsPerRound: got 9" in message
    assert "trainingWorkers[0]" in message


def test_a_job_that_leaves_no_room_for_its_status_is_refused_with_the_limit(make_job, objects):
    document = make_job(clients=tuple(f"the-client-of-a-hospital-{n}" for n in range(10_000)))
    found = resolve(document, objects)
    assert found.invalid.reason == "Invalid"
    assert "got 10000 workers" in found.invalid.message
    assert "expected at most 1441792 bytes" in found.invalid.message


def test_a_container_without_an_image_is_refused(make_job, objects):
    document = make_job()
    del document["spec"]["trainingWorkers"][1]["template"]["spec"]["containers"][0]["image"]
    assert "containers[0].image" in resolve(document, objects).invalid.message


@pytest.mark.parametrize(
    ("gone", "reason", "names"),
    [
        pytest.param([(DATASETS, "a")], "DatasetNotFound", ["Dataset 'a'"], id="dataset"),
        pytest.param([(MODELS, "m")], "ModelNotFound", ["Model 'm'"], id="model"),
        pytest.param(
            [(DATASETS, "a"), (DATASETS, "b"), (MODELS, "m")],
            "DatasetNotFound",
            ["Dataset 'a'", "Dataset 'b'", "Model 'm'"],
            id="all",
        ),
    ],
)
def test_what_is_missing_is_listed_and_heals_when_it_appears(
    make_job, objects, gone, reason, names
):
    taken = {(r, "ns", n): objects.known.pop((r, "ns", n)) for r, n in gone}
    found = resolve(make_job(), objects)
    assert found.job is not None
    assert found.missing.reason == reason
    for name in names:
        assert name in found.missing.message
    objects.known |= taken
    assert resolve(make_job(), objects).is_complete


def test_of_very_many_missing_ones_ten_are_listed(make_job, objects):
    clients = tuple(f"x{number}" for number in range(500))
    message = resolve(make_job(clients=clients), objects).missing.message
    assert "and 490 more" in message
    assert len(message) < 1000


def test_a_node_that_does_not_exist_is_named_with_its_client(make_job, objects):
    objects.add(DATASETS, "b", dataset("edge-9"))
    found = resolve(make_job(), objects)
    assert found.missing.reason == "NodeNotFound"
    assert "'edge-9'" in found.missing.message
    assert "'b'" in found.missing.message


def test_a_selector_that_no_node_has_is_missing_too(make_job, objects):
    document = make_job()
    template = document["spec"]["trainingWorkers"][0]["template"]["spec"]
    template["nodeSelector"] = {"zone": "south"}
    assert "zone=south" in resolve(document, objects).missing.message
    template["nodeSelector"] = {"zone": "north"}
    assert resolve(document, objects).is_complete


def evaluated(make_job, objects, url, node, **change):
    objects.add(DATASETS, "test", {"url": url, "format": "dir", "nodeName": node})
    document = make_job(evaluation={"dataset": {"name": "test"}})
    document["spec"]["aggregationWorker"]["template"]["spec"] |= change
    return resolve(document, objects)


def test_an_evaluation_reads_a_folder_of_the_cloud_but_not_of_an_edge(make_job, objects, make_node):
    edge = {"node-role.kubernetes.io/edge": ""}
    objects._nodes += [make_node("edge-3", **edge), make_node("cloud")]
    found = evaluated(make_job, objects, "/data/test", "edge-3")
    assert found.missing.reason == "NodeMismatch"
    assert "spec.evaluation.dataset.name: got data on 'edge-3', an edge" in found.missing.message
    found = evaluated(make_job, objects, "/data/test", "gone")
    assert found.missing.reason == "NodeNotFound"
    assert "'gone' (evaluation)" in found.missing.message
    assert evaluated(make_job, objects, "/data/test", "cloud").is_complete
    assert evaluated(make_job, objects, "https://host/test.csv", "edge-3").is_complete


def test_an_evaluation_runs_on_the_aggregation_workers_node_only(make_job, objects, make_node):
    objects._nodes += [make_node("cloud"), make_node("other")]
    found = evaluated(make_job, objects, "/data/test", "cloud", nodeName="other")
    assert found.missing.reason == "NodeMismatch"
    assert "'test' lies on node 'cloud'" in found.missing.message
    assert evaluated(make_job, objects, "/data/test", "cloud", nodeName="cloud").is_complete
    assert evaluated(make_job, objects, "https://h/test.csv", "cloud", nodeName="other").is_complete


def test_nodes_that_are_not_known_are_not_missed(make_job, objects):
    objects._nodes = None
    objects.add(DATASETS, "b", dataset("edge-9"))
    assert resolve(make_job(), objects).is_complete


def test_a_secret_is_found_with_its_keys(make_job, objects):
    secret(objects, ACCESS_KEY_ID="id", SECRET_ACCESS_KEY="key")
    found = resolve(make_job(transmitter=S3), objects)
    assert found.is_complete
    assert found.secret.data["SECRET_ACCESS_KEY"] == "key"


@pytest.mark.parametrize(
    ("entries", "reason", "said"),
    [
        pytest.param(None, "SecretNotFound", "'keys'", id="absent"),
        pytest.param({}, "SecretIncomplete", "ACCESS_KEY_ID", id="empty"),
        pytest.param(
            {"ACCESS_KEY_ID": "id"}, "SecretIncomplete", "SECRET_ACCESS_KEY", id="half of it"
        ),
        pytest.param(
            {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": ""},
            "SecretIncomplete",
            "SECRET_ACCESS_KEY",
            id="blank",
        ),
    ],
)
def test_a_secret_that_cannot_be_used_is_told_of_without_its_values(
    make_job, objects, entries, reason, said
):
    if entries is not None:
        secret(objects, **entries)
    found = resolve(make_job(transmitter=S3), objects)
    assert found.missing.reason == reason
    assert said in found.missing.message


def test_a_damaged_dataset_is_told_of(make_job, objects):
    objects.add(DATASETS, "a", {"url": 7})
    found = resolve(make_job(), objects)
    assert found.missing.reason == "DatasetInvalid"
    assert "url" in found.missing.message


def test_names_are_read_off_any_document(make_job):
    document = make_job(evaluation={"dataset": {"name": "test"}}, pretrainedModel={"name": "p"})
    assert names_of(document) == {
        ("Dataset", "a"),
        ("Dataset", "b"),
        ("Dataset", "test"),
        ("Model", "m"),
        ("Model", "p"),
    }
    assert names_of({"spec": {"trainingWorkers": [3, {"dataset": "x"}]}}) == set()
    assert names_of({}) == set()
