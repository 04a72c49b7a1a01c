"""Above a hundred clients those that look alike share a task: a loop per turn on a node, or per node."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from fedloom.errors import JobError
from pipelines.engines.kfp import compile_plan
from pipelines.engines.kfp_secrets import files_of, secrets_of

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


def urls(task) -> dict[str, dict[str, str]]:
    return {"get": {}, "put": {key: f"https://s/{key}" for key in task.outputs.values()}}


def told(plan, setting) -> dict:
    """What tasks in loops find in their Secret."""
    (secret,) = [s for s in secrets_of(plan, setting, urls, KEYS) if "clients.json" in s["data"]]
    found: dict = json.loads(gzip.decompress(files_of(secret)["clients.json"]))
    return found


def on_nodes(documents, nodes):
    """Put the clients on these nodes, in turn; None for nowhere."""
    number = 0
    for each in documents:
        if each["kind"] == "Dataset" and each["metadata"]["name"].startswith("site-"):
            each["spec"]["nodeName"] = nodes[number % len(nodes)]
            number += 1
    return documents


@pytest.fixture
def small(kfp_setting):
    return replace(kfp_setting, most_unrolled=2)


def test_a_thousand_clients_are_a_small_package_within_seconds(crowd, planned, kfp_setting):
    package = compile_plan(planned(crowd(1_000)), kfp_setting)
    text = package.to_yaml()
    assert len(text) < 60_000
    pipeline, _ = yaml.safe_load_all(text)
    json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec())


def test_a_hundred_clients_have_tasks_of_their_own_and_a_package_below_its_bound(
    crowd, planned, kfp_setting
):
    package = compile_plan(planned(crowd(100)), kfp_setting)
    assert len(package.to_yaml()) < 250_000
    tasks = package.pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert len(tasks) == 100


def test_a_client_on_its_own_node_is_the_selector_of_that_node(crowd, planned, small):
    plan = planned(crowd(3))
    package = compile_plan(plan, small)
    own = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    selector = own["exec-train-1"]["nodeSelector"]
    assert selector["nodeSelectorJson"]["componentInputParameter"].endswith("-loop-item")
    found = told(plan, small)
    nodes = [f"edge-site-000{number}" for number in range(3)]
    assert found["loops"] == {"train_1": [{"kubernetes.io/hostname": node} for node in nodes]}
    assert found["nodes"] == {f"edge-site-000{n}": [f"site-000{n}"] for n in range(3)}
    assert found["clients"].keys() == {f"site-000{n}" for n in range(3)}


def test_clients_that_share_nodes_take_turns_in_a_loop_each(crowd, planned, small):
    plan = planned(on_nodes(crowd(5), ["east", "west", "north"]))
    found = told(plan, small)["loops"]
    names = {key: [each["kubernetes.io/hostname"] for each in own] for key, own in found.items()}
    assert names == {"train_1": ["east", "west", "north"], "train_2": ["east", "west"]}
    container = compile_plan(plan, small).pipeline["deploymentSpec"]["executors"]["exec-train-2"]
    arguments = container["container"]["args"]
    assert arguments[arguments.index("--turn") + 1] == "1"


def test_many_clients_on_few_nodes_are_a_loop_of_names_for_each_node(crowd, planned, small):
    plan = planned(on_nodes(crowd(7), ["east", "west"]))
    assert told(plan, small)["loops"] == {
        "train_1": [f"site-000{n}" for n in (0, 2, 4, 6)],
        "train_2": [f"site-000{n}" for n in (1, 3, 5)],
    }
    own = compile_plan(plan, small).platform["platforms"]["kubernetes"]["deploymentSpec"]
    selectors = [own["executors"][f"exec-train-{n}"]["nodeSelector"]["labels"] for n in (1, 2)]
    assert selectors == [{"kubernetes.io/hostname": node} for node in ("east", "west")]


def test_clients_that_look_different_are_loops_of_their_own(crowd, planned, small):
    documents = crowd(4)
    documents[0] = json.loads(json.dumps(documents[0]))
    worker = documents[0]["spec"]["trainingWorkers"][3]
    worker["template"]["spec"]["containers"][0]["image"] = "another"
    package = compile_plan(planned(documents), small)
    images = {
        name: each["container"]["image"]
        for name, each in package.pipeline["deploymentSpec"]["executors"].items()
    }
    assert images["exec-train-2"] == "another"
    assert images["exec-train-1"] != "another"


def test_loops_of_secure_aggregation_wait_for_the_server_between_them(crowd, planned, small):
    documents = crowd(3)
    documents[0]["spec"]["privacy"] = {"secureAggregation": True, "maxValue": 1.0}
    del documents[0]["spec"]["compression"]
    package = compile_plan(planned(documents), replace(small, edge_state_claim="everybody"))
    tasks = package.pipeline["root"]["dag"]["tasks"]
    assert tasks["roster"]["dependentTasks"] == ["clients-advertise"]
    assert set(tasks["clients-share"]["dependentTasks"]) == {"cohort", "roster"}
    assert set(tasks["server"]["dependentTasks"]) == {"clients-reveal"}


def test_a_claim_for_each_client_is_refused_in_loops(crowd, planned, small):
    with pytest.raises(JobError) as caught:
        compile_plan(planned(crowd(3)), replace(small, edge_state_claim="state-{client}"))
    assert caught.value.reason == "TooManyClients"


def test_too_many_kinds_of_clients_are_refused(crowd, planned, small, monkeypatch):
    monkeypatch.setattr("pipelines.engines.kfp_loops.MOST_LOOPS", 1)
    documents = on_nodes(crowd(4), ["east", "west"])
    with pytest.raises(JobError) as caught:
        compile_plan(planned(documents), small)
    assert caught.value.reason == "TooManyClients"
    assert "a YAML anchor" in caught.value.message
