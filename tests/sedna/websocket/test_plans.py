"""The plan of a websocket job: old images as they are written, beside an aggregator of ours."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from controller.cluster.services import make_service
from controller.decide import decide, start_of
from controller.observed import Observed
from fedloom.api.documents import read_documents
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.validation import job_to_run
from fedloom.errors import InvalidJobError, JobError, TransientError
from pipelines.deadlines import client_deadline_seconds
from pipelines.engines.argo import Owner, Setting, compile_plan
from pipelines.engines.argo_parts import is_cuttable
from pipelines.engines.argo_secrets import client_secrets, dispatch_secrets, server_secret
from pipelines.engines.argo_service import service_of
from pipelines.rounds import RoundPlanner

UID = "8c2f1a77-5b1e-4c0e-9f57-0c8d1f0a2b3c"
EMPTY = {"key": "round-0000/model.safetensors", "digest": "sha256:" + "0" * 64, "size_bytes": 10}
ROUND_0 = {"round": 0, "model": EMPTY, "state": {}, "metrics": {}, "clients": {}}


def worker(name, node, **container):
    own = {"name": "train-worker", "image": "old/client:v0.4", **container}
    spec = {"nodeName": node, "containers": [own]}
    return {"dataset": {"name": name}, "template": {"spec": spec}}


def documents(**spec):
    environment = [{"name": "exit_round", "value": "3"}]
    container = {"name": "agg-worker", "image": "old/aggregator:v0.4", "env": environment}
    job = {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": "FederatedLearningJob",
        "metadata": {"name": "surface"},
        "spec": {
            "compat": "websocket",
            "aggregationWorker": {
                "model": {"name": "out"},
                "template": {"spec": {"containers": [container]}},
            },
            "trainingWorkers": [
                worker("one", "edge-1", command=["python", "train.py"]),
                worker("two", "edge-2", env=[{"name": "AGG_IP", "value": "nowhere"}]),
            ],
            "participation": {"deadlineSeconds": 100},
            **spec,
        },
    }
    others = [("Model", "out", {"url": "/model", "format": "pb"})]
    others += [
        ("Dataset", name, {"url": f"/data/{name}/x.txt", "format": "txt", "nodeName": node})
        for name, node in (("one", "edge-1"), ("two", "edge-2"))
    ]
    named = [
        {"apiVersion": "sedna.io/v1alpha1", "kind": k, "metadata": {"name": n}, "spec": s}
        for k, n, s in others
    ]
    return [job, *named]


@pytest.fixture
def job_of(tmp_path):
    def read(**spec):
        path = tmp_path / "job.yaml"
        path.write_text("".join(f"---\n{json.dumps(each)}\n" for each in documents(**spec)))
        found = read_documents([path])
        job = job_to_run(found)
        job = replace(job, metadata=replace(job.metadata, uid=UID))
        return job, datasets_of(found, job), models_of(found, job)

    return read


@pytest.fixture
def plan(job_of):
    job, *found = job_of()
    return RoundPlanner(job, *found).plan(start_of(job, Observed(last=ROUND_0), 0.0))


@pytest.fixture
def setting():
    return Setting(
        namespace="default",
        owner=Owner("sedna.io/v1alpha1", "FederatedLearningJob", "surface", UID),
        service_account="fedloom-worker",
        steps_image="fedloom/steps:0.1.0",
        store_uri="s3://fedloom/jobs/default/surface-8c2f1a77",
        dispatched=frozenset(("two",)),
        dispatcher_image="fedloom/controller:0.1.0",
    )


def template(workflow, name):
    return next(each for each in workflow["spec"]["templates"] if each["name"] == name)


def test_round_0_runs_nothing_of_the_users(job_of):
    job, *found = job_of()
    first = RoundPlanner(job, *found).plan(start_of(job, Observed(), 0.0))
    assert [task.step for task in first.tasks] == ["initialize", "commit"]
    assert all(task.template is None for task in first.tasks)
    assert first.tasks[0].settings == {"empty": True}


def test_nobody_waits_for_anybody_and_the_server_comes_last(plan):
    assert [task.name for task in plan.tasks] == ["train-one", "train-two", "websocket", "commit"]
    assert [task.depends for task in plan.tasks] == [(), (), (), ("websocket",)]
    assert plan.rounds == 1
    assert not is_cuttable(plan)


def test_workers_are_told_where_the_aggregator_is(plan):
    for task in plan.tasks[:2]:
        environment = task.settings["environment"]
        assert environment["AGG_IP"] == "surface-aggregation.default"
        assert environment["AGG_PORT"] == "7363"
        assert environment["JOB_NAME"] == "surface"
        assert task.inputs == {}
        assert task.outputs == {}
        assert task.deadline_seconds == 360
    assert plan.tasks[2].settings["workers"] == {
        plan.tasks[0].settings["environment"]["WORKER_NAME"]: "one",
        plan.tasks[1].settings["environment"]["WORKER_NAME"]: "two",
    }
    assert plan.tasks[2].settings["inner_rounds"] == 3
    assert plan.tasks[2].settings["nodes"] == {"one": "edge-1", "two": "edge-2"}


def test_the_workflow_starts_all_pods_at_once(plan, setting):
    workflow = compile_plan(plan, setting)
    tasks = {task["name"]: task for task in template(workflow, "round")["dag"]["tasks"]}
    assert list(tasks) == ["dispatch", "client-one", "server"]
    assert not any(task.get("depends") for task in tasks.values())
    assert workflow["metadata"]["annotations"]["fedloom.io/last-task"] == "server"


def test_the_workers_container_is_as_written_and_alone(plan, setting):
    workflow = compile_plan(plan, setting)
    pod = template(workflow, "client")
    assert "containerSet" not in pod
    assert "initContainers" not in pod
    container = pod["container"]
    assert container["image"] == "old/client:v0.4"
    assert container["command"] == ["python", "train.py"]
    environment = {each["name"]: each for each in container["env"]}
    assert environment["AGG_IP"]["value"] == "surface-aggregation.default"
    assert "PYTHONPATH" not in environment
    assert pod["timeout"] == "420s"


def test_a_dispatched_worker_is_a_plain_job(plan, setting):
    (secret,) = dispatch_secrets(plan, setting)
    import base64

    ((_, data),) = secret["data"].items()
    orders = json.loads(base64.b64decode(data))
    (shape,) = orders["shapes"]
    pod = shape["spec"]["template"]["spec"]
    assert [each["image"] for each in pod["containers"]] == ["old/client:v0.4"]
    assert pod["initContainers"] == []
    environment = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert environment["AGG_IP"] == "surface-aggregation.default"  # the system's value wins


def test_the_server_listens_behind_a_service_that_selects_it_alone(plan, setting):
    workflow = compile_plan(plan, setting)
    service = service_of(plan, setting)
    assert service["metadata"]["name"] == "surface-aggregation"
    assert service["metadata"]["ownerReferences"][0]["kind"] == "FederatedLearningJob"
    assert service["spec"]["ports"] == [
        {"name": "tcp-0", "protocol": "TCP", "port": 7363, "targetPort": 7363}
    ]
    selector = service["spec"]["selector"]
    sedna = "federatedlearningjob.sedna.io"
    assert selector[f"{sedna}/worker-type"] == "aggregation"
    assert {f"{sedna}/name", f"{sedna}/uid"} <= set(selector)
    chosen = [
        each["name"]
        for each in workflow["spec"]["templates"]
        if selector.items() <= (each.get("metadata") or {}).get("labels", {}).items()
    ]
    assert chosen == ["server"]
    container = template(workflow, "server")["container"]
    assert container["ports"][0]["containerPort"] == 7363
    assert container["readinessProbe"]["httpGet"] == {"path": "/", "port": 7363}
    assert container["args"][-2:] == ["--group", "server"]


def test_a_job_of_another_kind_has_no_service(job_of, setting):
    job, *found = job_of(compat="sedna")
    other = RoundPlanner(job, *found).plan(start_of(job, Observed(last=ROUND_0), 0.0))
    assert service_of(other, setting) is None
    assert client_deadline_seconds(job) == 100


def test_an_evaluation_runs_behind_the_last_inner_round(job_of, setting):
    container = {"name": "e", "image": "new", "command": ["python", "evaluate.py"]}
    evaluation = {
        "dataset": {"name": "one"},
        "everyRounds": 5,
        "template": {"spec": {"containers": [container]}},
    }
    job, *found = job_of(evaluation=evaluation)
    made = RoundPlanner(job, *found).plan(start_of(job, Observed(last=ROUND_0), 0.0))
    server = template(compile_plan(made, setting), "server")["containerSet"]["containers"]
    assert [each["name"] for each in server] == ["websocket", "evaluate", "commit"]
    assert [each.get("dependencies") for each in server] == [None, ["websocket"], ["evaluate"]]
    assert "readinessProbe" in server[0]
    assert "readinessProbe" not in server[1]


def test_secrets_are_made_of_it_as_of_any_plan(plan, setting):
    access = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    assert server_secret(plan, setting, access)["metadata"]["name"].endswith("-server")
    assert len(client_secrets(plan, setting, lambda task: {"get": {}, "put": {}})) == 2


def test_the_job_is_done_after_its_one_round(job_of):
    job, *_ = job_of()
    assert job.spec.rounds == 3
    decision = decide(job, Observed(last={**ROUND_0, "round": 1}), 0.0)
    assert (decision.phase, decision.reason) == ("Succeeded", "RoundsDone")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"algorithm": {"name": "fedadam"}}, "spec.algorithm.name"),
        ({"privacy": {"clipNorm": 1.0, "noiseMultiplier": 1.0}}, "spec.privacy"),
        ({"compression": {"uplink": {"codec": "int8"}}}, "spec.compression.uplink.codec"),
        ({"aggregation": {"fanIn": 2}}, "spec.aggregation.fanIn"),
        ({"aggregation": {"clipNorm": 1.0}}, "spec.aggregation.clipNorm"),
        (
            {"stopCondition": {"metric": "a", "goal": "maximize", "threshold": 1}},
            "spec.stopCondition",
        ),
    ],
)
def test_what_old_images_know_nothing_of_is_refused(job_of, spec, field):
    with pytest.raises(InvalidJobError) as caught:
        job_of(**spec)
    assert any(problem.field.endswith(f" {field}") for problem in caught.value.problems)


class _Server:
    """The one Service of a cluster."""

    def __init__(self, found):
        self.found = found

    def create(self, resource, document):
        from controller.cluster.answers import ConflictError

        if self.found is not None:
            raise ConflictError("there is one already")
        self.found = document

    def get(self, resource, namespace, name):
        return self.found


def test_the_service_of_an_earlier_attempt_does_and_anybody_elses_does_not(plan, setting):
    service = service_of(plan, setting)
    server = _Server(None)
    make_service(server, service)
    make_service(server, service)
    uid = "federatedlearningjob.sedna.io/uid"
    with pytest.raises(TransientError, match="has not gone yet"):
        make_service(_Server({"metadata": {"labels": {uid: "another"}}}), service)
    with pytest.raises(JobError, match="surface-aggregation"):
        make_service(_Server({"metadata": {"labels": {"app": "mine"}}}), service)
