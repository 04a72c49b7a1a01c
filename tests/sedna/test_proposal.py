"""The proposal of federated learning for KubeEdge, promise by promise, in the order of its text.

What it is for, what a user can do with it, the CRD and its checks, the three loops, their messages.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import importlib.util
import json
import ssl
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.cluster.resources import (
    BATCH_JOBS,
    DATASETS,
    JOBS,
    MODELS,
    NODES,
    PODS,
    SECRETS,
    WORKFLOWS,
)
from controller.link.calling import Line
from controller.link.tls import client_context
from fedloom.api.crd import crds
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.artifact import digest_of
from fedloom.keys import certificates
from fedloom.keys.certificates import CLOUD, EDGE, Identity
from pipelines.engines.argo_dispatch import client_jobs

SEDNA = "federatedlearningjob.sedna.io"
Document = dict[str, Any]


def environment(**variables: str) -> list[Document]:
    return [{"name": name, "value": value} for name, value in variables.items()]


def container_of(worker: Document) -> Document:
    return worker["template"]["spec"]["containers"][0]


def workflow(bench, run: str) -> Document:
    found = bench.cluster.all(WORKFLOWS)
    return next(each for each in found if each["metadata"]["name"].endswith(f"-{run}"))


def templates(bench, run: str) -> dict[str, Document]:
    return {each["name"]: each for each in workflow(bench, run)["spec"]["templates"]}


# What it is for.


def test_raw_data_stays_where_it_is(mover):
    secret = "patient-4711"
    mover.describe({"rounds": 1})
    (mover.folder / "a.txt").write_text(f"1\n2  # {secret}\n3\n")
    assert mover.run().phase == "Succeeded"
    assert mover.result(1)["clients"]["a"]["num_examples"] == 3, "it was read"
    written = [path for path in (mover.folder / "state").rglob("*") if path.is_file()]
    assert len(written) > 5
    assert not [path for path in written if secret.encode() in path.read_bytes()]


def test_an_edge_can_upload_its_update_and_nothing_else(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    of_edges = [s for s in bench.cluster.all(SECRETS) if "-r1-a1-edge-" in s["metadata"]["name"]]
    assert len(of_edges) == 2
    for secret in of_edges:
        files = {key: base64.b64decode(value) for key, value in secret["data"].items()}
        (client,) = [key.removesuffix(".json") for key in files if key.endswith(".json")]
        urls = json.loads(files[f"{client}.json"])["urls"]["put"]
        assert {key.rpartition("/")[2] for key in urls} == {"update.safetensors", "report.json"}
        assert all(f"/updates/{client}/" in key for key in urls)
        assert b"AWS_SECRET" not in b"".join(files.values())


def test_data_on_several_nodes_is_combined_into_one_model(mover):
    mover.describe({"rounds": 2})
    assert mover.run().phase == "Succeeded"
    together = (1 + 2 + 3 + 4 + 5 + 10) / 6
    np.testing.assert_allclose(mover.model(2)["w"], together * (1 - 0.5**2), atol=0.03)


@pytest.fixture(scope="module")
def learned(example, run_example) -> dict[str, list[float]]:
    """Accuracy on the data of both edges after each of three rounds: together, and each edge alone."""
    table = np.vstack([np.loadtxt(example / f"data/{number}/train.txt") for number in (1, 2)])
    x, y = table[:, :-1] / 16, table[:, -1]

    def accuracies(*workers: int) -> list[float]:
        run = run_example(3, *workers)
        models = [load_arrays(run.model(number))[0] for number in (1, 2, 3)]
        guessed = [(x @ each["0000"] + each["0001"]).argmax(axis=1) for each in models]
        return [float((each == y).mean()) for each in guessed]

    return {"together": accuracies(0, 1), "one": accuracies(0), "other": accuracies(1)}


def test_the_precision_is_higher_than_that_of_any_single_edge(learned):
    assert learned["together"][-1] > max(learned["one"][-1], learned["other"][-1]) + 0.02


def test_the_time_to_a_precision_is_shorter_than_at_a_single_edge(learned):
    def rounds_to(goal: float, who: str) -> int:
        return next((i for i, reached in enumerate(learned[who], 1) if reached >= goal), 99)

    goal = max(learned["one"][-1], learned["other"][-1])
    assert rounds_to(goal, "together") < min(rounds_to(goal, "one"), rounds_to(goal, "other"))


def test_status_and_result_of_the_training_can_be_asked_for_at_any_time(bench):
    bench.apply_job()
    bench.look()
    seen = []
    for number in range(3):
        bench.round(number)
        status = bench.status
        seen.append((status["phase"], status["currentRound"], status["model"]["round"]))
    assert seen == [("Running", 1, 0), ("Running", 2, 1), ("Succeeded", 2, 2)]
    assert bench.status["metrics"] == {"train/loss": "0.5"}
    assert bench.status["model"]["uri"]


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        pytest.param("fedavg", 25 / 6, id="fedavg: the weighted mean"),
        pytest.param("fedavgm", 25 / 6, id="fedavgm: momentum begins with the second round"),
        pytest.param("median", 4.5, id="median: 10 is an outlier"),
        pytest.param("trimmed-mean", 4.5, id="trimmed-mean: the middle one of three"),
    ],
)
def test_common_aggregation_algorithms_are_there_by_name(mover, algorithm, expected):
    worker = mover.spec["aggregationWorker"]
    container_of(worker)["env"] = environment(aggregation_algorithm=algorithm)
    mover.describe({"rounds": 1})
    assert mover.run().phase == "Succeeded"
    np.testing.assert_allclose(mover.model(1)["w"], expected / 2, atol=0.04)


@pytest.mark.parametrize(
    ("codec", "times"), [({"codec": "int8"}, 3.5), ({"codec": "topk", "fraction": 0.01}, 30)]
)
def test_compression_of_what_clients_send_reduces_the_traffic(mover, codec, times):
    mover.files["train.py"] = mover.files["train.py"].replace("(3, 2)", "(300, 20)")
    mover.spec |= {"compat": "sedna", "rounds": 1}
    sent = {}
    for name, uplink in (("plain", {"codec": "none"}), ("small", codec)):
        mover.spec["compression"] = {"uplink": uplink}
        assert mover.run(name).phase == "Succeeded"
        (event,) = mover.rounds()
        sent[name] = event["traffic"]["uplink_bytes"]
    assert sent["plain"] > 3 * 4 * 300 * 20, "three clients, float32"
    assert sent["small"] * times < sent["plain"]


def test_a_job_learns_from_another_and_waits_until_that_has_something_to_give(bench):
    """Migration between jobs, against low precision by few samples: tests/transfer has the rest."""
    bench.apply_job(transfer={"mode": "warmStart", "from": [{"job": "another"}]})
    bench.look()
    assert bench.condition("Accepted") == ("True", "Valid")
    waiting, reason = bench.condition("WaitingForSource")
    assert (waiting, reason) == ("True", "SourceNotFound")
    assert bench.workflows() == []


# What a user does.


def test_a_job_is_made_of_a_script_an_algorithm_hyperparameters_and_datasets(mover):
    script = mover.files.pop("train.py").replace(
        "np.float32(0.5)", "np.float32(os.environ['learning_rate'])"
    )
    mover.files["my_own.py"] = script
    for worker in mover.spec["trainingWorkers"]:
        container_of(worker)["command"] = ["python", "my_own.py"]
        container_of(worker)["env"] = environment(learning_rate="1.0")
    worker = mover.spec["aggregationWorker"]
    container_of(worker)["env"] = environment(aggregation_algorithm="median", exit_round="1")
    mover.describe({})
    assert mover.run().phase == "Succeeded"
    np.testing.assert_allclose(mover.model(1)["w"], 4.5, atol=0.04)
    examples = {name: each["num_examples"] for name, each in mover.result(1)["clients"].items()}
    assert examples == {"a": 3, "b": 2, "c": 1}


def test_the_status_tells_nodes_state_samples_iteration_and_aggregations(bench, make_pod):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.round(1, b="ScriptFailed")
    for name, node in (("a", "edge-1"), ("b", "edge-2")):
        pod = make_pod(name)
        pod["metadata"]["labels"]["fedloom.io/round"] = "2"
        pod["spec"]["nodeName"] = node
        bench.apply(pod)
    bench.end_workflow("r2-a1", "Running")
    bench.look()
    status = bench.status
    assert (status["currentRound"], status["aggregationCount"]) == (2, 1)
    assert status["phase"] == "Running"
    clients = {each["name"]: each for each in status["clients"]}
    nodes = {name: each["nodeName"] for name, each in clients.items()}
    assert nodes == {"a": "edge-1", "b": "edge-2"}
    assert {each["state"] for each in clients.values()} == {"Running"}
    assert clients["a"]["samples"] == 7
    assert bench.condition("Progressing") == ("True", "RoundRunning")
    bench.round(2, b="ScriptFailed")
    clients = {each["name"]: each for each in bench.status["clients"]}
    assert (clients["a"]["state"], clients["b"]["state"]) == ("Succeeded", "Failed")
    assert clients["b"]["reason"] == "ScriptFailed"


def test_the_aggregated_model_is_saved_where_the_job_says(mover):
    mover.describe({"rounds": 1})
    assert mover.run().phase == "Succeeded"
    saved = load_arrays(mover.folder / "out/model.pb.safetensors")[0]
    np.testing.assert_array_equal(saved["w"], mover.model(1)["w"])


def test_the_models_file_goes_to_nodes_of_the_cloud_and_of_the_edge(bench, make_node):
    template = {"spec": {"nodeName": "cloud-1", "containers": [{"name": "a", "image": "b"}]}}
    bench.apply(make_node("cloud-1"))
    aggregator = {"model": {"name": "m"}, "template": template}
    bench.apply_job(compat="sedna", rounds=1, aggregationWorker=aggregator)
    bench.look()
    bench.round(0)
    model = dump_arrays({"w": np.ones(4, np.float32)})
    bench.job_store.put("round-0001/model.safetensors", model)
    bench.commit(1)
    result = json.loads(bench.job_store.get("round-0001/result.json"))
    result["model"]["digest"] = digest_of(model)
    bench.job_store.put("round-0001/result.json", json.dumps(result).encode(), replace=True)
    bench.end_workflow("r1-a1")
    bench.look()
    pods = [each["spec"]["template"]["spec"] for each in bench.cluster.all(BATCH_JOBS)]
    assert {pod["nodeName"] for pod in pods} == {"cloud-1", "edge-1", "edge-2"}
    for pod in pods:
        assert {"path": "/models/m", "type": "DirectoryOrCreate"} in [
            each.get("hostPath") for each in pod["volumes"]
        ]


# The CRD and its checks.


def test_the_crd_has_the_group_version_kind_and_scope():
    (crd,) = [c for c in crds().values() if c["spec"]["names"]["kind"] == "FederatedLearningJob"]
    assert crd["kind"] == "CustomResourceDefinition"
    assert crd["spec"]["group"] == "sedna.io"
    assert [version["name"] for version in crd["spec"]["versions"]] == ["v1alpha1"]
    assert crd["spec"]["scope"] == "Namespaced"
    (version,) = crd["spec"]["versions"]
    assert {"spec", "status"} <= set(version["schema"]["openAPIV3Schema"]["properties"])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("suspend",), "yes"),
        (("trainingWorkers",), "two"),
        (("trainingWorkers", 0, "dataset"), {}),
        (("aggregationWorker", "model", "name"), 7),
    ],
)
def test_the_schema_guards_against_values_of_wrong_types(make_job, place, value):
    path = Path(__file__).parents[1] / "api/test_crds.py"
    spec = importlib.util.spec_from_file_location("schema_twin", path)
    twin = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = twin
    spec.loader.exec_module(twin)
    document = make_job()
    schema = twin.schema_of(twin.JOBS)
    assert not twin.refusals(schema, {"spec": document["spec"]})
    within = document["spec"]
    for step in place[:-1]:
        within = within[step]
    within[place[-1]] = value
    (refused,) = twin.refusals(schema, {"spec": document["spec"]})
    assert refused.startswith(f".spec.{place[0]}")


@pytest.mark.parametrize(
    ("resource", "namespace", "name", "reason"),
    [
        pytest.param(DATASETS, "ns", "b", "DatasetNotFound", id="dataset"),
        pytest.param(MODELS, "ns", "m", "ModelNotFound", id="model"),
        pytest.param(NODES, None, "edge-2", "NodeNotFound", id="node"),
    ],
)
def test_what_a_job_names_must_exist(bench, resource, namespace, name, reason):
    bench.apply_job()
    missing = bench.cluster.get(resource, namespace, name)
    bench.cluster.delete(resource, namespace, name)
    bench.look()
    assert bench.condition("ResolvedRefs") == ("False", reason)
    found = next(each for each in bench.status["conditions"] if each["type"] == "ResolvedRefs")
    assert f"'{name}'" in found["message"]
    assert bench.workflows() == []
    del missing["metadata"]["resourceVersion"]
    bench.apply(missing)
    bench.look()
    assert bench.workflows() == ["r0-a1"]


# The first loop: federated learning.


def test_a_new_job_gets_its_aggregation_worker_and_its_training_workers(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    made = templates(bench, "r1-a1")
    kinds = [
        (each.get("metadata") or {}).get("labels", {}).get(f"{SEDNA}/worker-type")
        for each in made.values()
    ]
    assert kinds.count("aggregation") == 1
    (tasks,) = [each["dag"]["tasks"] for each in made.values() if "dag" in each]
    assert {"client-a", "client-b", "server"} == {task["name"] for task in tasks}
    assert "train" in kinds


def test_workers_of_a_deleted_job_go_by_garbage_collection(bench):
    job = bench.apply_job()
    bench.look()
    bench.round(0)
    owned = {each["metadata"]["uid"] for each in bench.cluster.all(WORKFLOWS)}
    owned.add(job["metadata"]["uid"])
    for kind in (WORKFLOWS, SECRETS):
        for each in bench.cluster.all(kind):
            assert {o["uid"] for o in each["metadata"]["ownerReferences"]} <= owned
    bench.cluster.delete(JOBS, "ns", "toy")
    deleted = dict(bench.cluster.calls)
    bench.look()
    assert bench.cluster.all(WORKFLOWS) == bench.cluster.all(SECRETS) == []
    now = {call: n for call, n in bench.cluster.calls.items() if call[0] == "delete"}
    assert now == {call: n for call, n in deleted.items() if call[0] == "delete"}


def test_a_pod_that_is_created_runs_completes_or_fails_is_seen_in_the_status(bench, make_pod):
    bench.apply_job()
    bench.look()
    bench.round(0)
    bench.end_workflow("r1-a1", "Running")
    pod = make_pod("a", "Pending")
    pod["metadata"]["creationTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    bench.apply(pod)

    def seen(phase: str, **status: Any) -> tuple[str, tuple[int, ...]]:
        bench.cluster.set_status(PODS, "ns", "pod-a", {"phase": phase, **status})
        bench.look()
        (found,) = [each for each in bench.status["clients"] if each["name"] == "a"]
        counts = tuple(bench.status.get(name, 0) for name in ("active", "succeeded", "failed"))
        return found["state"], counts

    assert seen("Pending")[0] == "Pending"
    assert seen("Running") == ("Running", (1, 0, 0))
    assert seen("Succeeded") == ("Succeeded", (0, 1, 0))
    state = {"terminated": {"exitCode": 3, "reason": "Error"}}
    ended = seen("Failed", containerStatuses=[{"name": "train", "state": state}])
    assert ended == ("Failed", (0, 0, 1))


# Downstream.


def held(edge) -> dict[str, Any]:
    return edge.running._storage.held()


def test_a_new_job_is_told_to_the_local_controllers_of_its_edges(cloud, edge, wait):
    one, two = edge("edge-1"), edge("edge-2")
    one.start(), two.start()
    cloud.job("newcomer", ("a",))
    wait(lambda: "federatedlearningjobs/ns/newcomer" in held(one))
    wait(lambda: "federatedlearningjobs/ns/toy" in held(two))
    assert "federatedlearningjobs/ns/newcomer" not in held(two)


def test_the_deletion_of_a_job_is_told_to_the_local_controllers(cloud, edge, wait):
    one = edge()
    one.start()
    wait(lambda: "federatedlearningjobs/ns/toy" in held(one))
    cloud.cluster.delete(JOBS, "ns", "toy")
    wait(lambda: "federatedlearningjobs/ns/toy" not in held(one))


# Upstream.


def test_the_state_that_a_worker_reports_at_its_edge_is_appended_to_the_jobs_status(
    cloud, edge, wait
):
    one = edge()
    one.start()
    wait(lambda: "federatedlearningjobs/ns/toy" in held(one))
    assert one.report("trainworker-a", 1)[0] == 200
    wait(lambda: cloud.condition("Training"))
    assert cloud.condition("Training")["message"] == "Round 1 reaches at 2026-01-01 00:00:01"
    (client,) = [each for each in cloud.status()["clients"] if each["name"] == "a"]
    assert client["samples"] == 120


# What they say to each other, as it is written there.


@pytest.fixture
def certificate(cloud, secret_of):
    """A TLS context for somebody whom the installation's authority knows."""

    def made(who: Identity) -> ssl.SSLContext:
        key = certificates.new_key()
        signed = secret_of(cloud).sign(certificates.request_of(key), who, time.time(), 600)
        return client_context(signed, key, cloud.authority())

    return made


@pytest.fixture
def post(cloud, certificate) -> Iterator[Any]:
    """What a node posts to the cloud."""
    context = certificate(Identity(EDGE, "edge-1"))
    line = Line(("127.0.0.1", cloud.port), lambda: context)
    yield lambda path, body: line.call("POST", path, body, {})
    line.close()


def test_the_cloud_posts_a_job_to_a_local_controller_as_the_cr_itself(
    cloud, edge, certificate, wait
):
    one = edge()
    one.start()
    wait(lambda: "federatedlearningjobs/ns/toy" in held(one))
    context = certificate(Identity(CLOUD, "controller"))
    context.check_hostname = False
    body = cloud.cluster.get(JOBS, "ns", "toy")
    body["metadata"] |= {"name": "posted", "uid": "uid-posted"}
    line = http.client.HTTPSConnection("127.0.0.1", one.port, context=context, timeout=5)
    with contextlib.closing(line):
        line.request("POST", "/ns/federatedlearningjobs/posted", json.dumps(body))
        assert line.getresponse().status == 200
    stored = one.running._storage.get("federatedlearningjobs", "ns", "posted")
    assert stored["spec"] == body["spec"]


def test_a_local_controller_posts_a_worker_message_with_all_of_its_fields(cloud, post, wait):
    message = {
        "phase": "train",
        "status": "running",
        "output": {
            "models": [{"format": "pb", "url": "/model/a.pb", "metrics": {"precision": 0.75}}],
            "jobInfo": {
                "currentRound": 2,
                "updateTime": "2026-01-01 00:00:02",
                "sampleCount": 300,
            },
        },
    }
    code, answer = post("/ns/federatedlearningjobs/toy/status", message)
    assert (code, answer["applied"]) == (200, True)
    wait(lambda: cloud.condition("Training"))
    assert cloud.condition("Training")["message"] == "Round 2 reaches at 2026-01-01 00:00:02"
    metrics = wait(
        lambda: (cloud.cluster.get(MODELS, "ns", "m").get("status") or {}).get("metrics")
    )
    assert metrics == [{"key": "precision", "value": "0.75"}]
    (client,) = [each for each in cloud.status()["clients"] if each["name"] == "a"]
    assert client["samples"] == 300


# Who runs where.


def test_the_aggregator_runs_in_the_cloud_and_training_workers_on_the_edges_of_the_user(bench):
    bench.apply_job()
    bench.look()
    bench.round(0)
    made = templates(bench, "r1-a1")
    (tasks,) = [each["dag"]["tasks"] for each in made.values() if "dag" in each]
    nodes = {}
    for task in tasks:
        for given in (task.get("arguments") or {}).get("parameters", ()):
            if given["name"] == "node":
                nodes[task["name"]] = given["value"]
    assert nodes == {"client-a": "edge-1", "client-b": "edge-2"}
    (server,) = [each for name, each in made.items() if name == "server"]
    terms = json.dumps(server["affinity"]["nodeAffinity"])
    assert "node-role.kubernetes.io/edge" in terms
    assert "DoesNotExist" in terms


def test_where_kubeedge_starts_the_pods_workers_are_plain_jobs_on_their_nodes(bench, make_node):
    """Stock KubeEdge knows pods and no more: nothing on its nodes asks for an API server."""
    bench.apply_job()
    for name in ("edge-1", "edge-2"):
        bench.cluster.delete(NODES, None, name)
        marks = {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": ""}
        bench.apply(make_node(name, **marks))
    bench.look()
    bench.round(0)
    made = templates(bench, "r1-a1")
    assert "server" in made, "the aggregator is Kubernetes' own business"
    assert not [name for name in made if name.startswith("client")]
    orders = [
        json.loads(base64.b64decode(*each["data"].values()))
        for each in bench.cluster.all(SECRETS)
        if "-r1-a1-dispatch" in each["metadata"]["name"]
    ]
    pods = [
        job["spec"]["template"]["spec"]
        for each in orders
        for job in client_jobs(each, "workflow", "uid")
    ]
    assert {pod["nodeName"] for pod in pods} == {"edge-1", "edge-2"}
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert "hostNetwork" not in pod
