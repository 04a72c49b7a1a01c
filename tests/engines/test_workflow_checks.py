"""What would fail late is refused early; names are legal, unique and the same each time."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.errors import JobError
from pipelines.engines import argo_names as names
from pipelines.engines.argo import compile_plan, workflow_name
from pipelines.engines.argo_checks import check_workflow

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
TEXT = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=90)
UID = "8c2f1a77-5b1e-4c0e-9f57-0c8d1f0a2b3c"


@given(TEXT, st.integers(0, 100_000), st.integers(1, 20))
def test_names_of_workflows_are_legal_whatever_the_jobs_name(job, number, attempt):
    name = workflow_name(job, UID, number, attempt)
    assert DNS_LABEL.fullmatch(name)
    assert len(name) <= 63
    assert name == workflow_name(job, UID, number, attempt)
    assert name.endswith(f"-8c2f1a77-r{number}-a{attempt}")


@given(TEXT)
def test_labels_tasks_and_jobs_are_legal_whatever_the_clients_name(client):
    assert LABEL_VALUE.fullmatch(names.label_value(client))
    assert DNS_LABEL.fullmatch(names.task_name(client))
    assert names.task_name(client)[0].isalpha()
    assert DNS_LABEL.fullmatch(names.job_name("w-r1-a1", client))
    for made in (names.label_value(client), names.task_name(client), names.job_name("w", client)):
        assert len(made) <= 63


@given(st.lists(TEXT, min_size=2, max_size=2, unique=True))
def test_different_clients_have_different_names(clients):
    for make in (names.label_value, names.task_name, lambda c: names.job_name("w-r1-a1", c)):
        assert len({make(client) for client in clients}) == 2


def test_a_legal_name_stays_as_it_is():
    assert workflow_name("digits", UID, 7, 1) == "digits-8c2f1a77-r7-a1"
    assert names.task_name("client-digits-1") == "client-digits-1"
    assert names.label_value("Digits.1") == "Digits.1"


def test_few_clients_have_a_secret_each_and_many_share():
    assert [names.secret_part(index, 64) for index in (0, 1, 63)] == [0, 1, 63]
    assert [names.secret_part(index, 65) for index in (0, 49, 50, 64)] == [0, 0, 1, 1]


def worker(example: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = example[0]["spec"]["trainingWorkers"][0]["template"]["spec"]
    return spec


def _two_containers(spec: dict[str, Any]) -> None:
    spec["containers"].append({"name": "second", "image": "i"})


def _our_volume(spec: dict[str, Any]) -> None:
    spec["volumes"] = [{"name": "fedloom-work", "emptyDir": {}}]


def _our_path(spec: dict[str, Any]) -> None:
    spec["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/fedloom/round"}]


def _braces_in_a_variable(spec: dict[str, Any]) -> None:
    spec["containers"][0]["env"] = [{"name": "A", "value": "{{workflow.name}}"}]


def _braces_in_a_command(spec: dict[str, Any]) -> None:
    spec["containers"][0]["command"] = ["sh", "-c", "echo '{{'"]


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        (_two_containers, "BadTemplate", "got the containers train, second, expected exactly one"),
        (_our_volume, "BadTemplate", "got the volume 'fedloom-work', expected another name"),
        (_our_path, "BadTemplate", "got a mount at /fedloom/round, expected another path"),
        (_braces_in_a_variable, "TemplateBraces", "got '{{workflow.name}}', expected a text"),
        (_braces_in_a_command, "TemplateBraces", "Argo replaces what is between"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_template_that_cannot_run_is_refused(change, reason, message, planned, example, setting):
    change(worker(example))
    with pytest.raises(JobError, match=re.escape(message)) as caught:
        compile_plan(planned(example), setting)
    assert caught.value.reason == reason


def test_braces_in_a_hyperparameter_are_refused(planned, example, setting):
    example[0]["spec"]["hyperparameters"]["prompt"] = "{{ name }}"
    with pytest.raises(JobError, match="what train-digits-1 is told") as caught:
        compile_plan(planned(example), setting)
    assert caught.value.reason == "TemplateBraces"


def test_the_users_init_containers_keep_clear_of_argos_and_ours(planned, example, setting):
    worker(example)["initContainers"] = [{"name": name, "image": "i"} for name in ("init", "own")]
    client = compile_plan(planned(example), setting)["spec"]["templates"][1]
    assert [each["name"] for each in client["initContainers"]] == ["fetch", "user-init", "own"]


def _unknown_task(workflow: dict[str, Any]) -> None:
    workflow["spec"]["templates"][0]["dag"]["tasks"][-1]["depends"] = "client-nobody.Failed"


def _unknown_template(workflow: dict[str, Any]) -> None:
    workflow["spec"]["templates"][0]["dag"]["tasks"][0]["template"] = "nothing"


def _twice_the_same_task(workflow: dict[str, Any]) -> None:
    tasks = workflow["spec"]["templates"][0]["dag"]["tasks"]
    tasks.append(copy.deepcopy(tasks[0]))


def _long_name(workflow: dict[str, Any]) -> None:
    workflow["metadata"]["name"] = "w" * 64


def _long_label(workflow: dict[str, Any]) -> None:
    workflow["metadata"]["labels"]["fedloom.io/round"] = "1" * 64


def _no_command(workflow: dict[str, Any]) -> None:
    del workflow["spec"]["templates"][1]["containerSet"]["containers"][0]["command"]


def _a_signed_url(workflow: dict[str, Any]) -> None:
    workflow["metadata"]["annotations"]["u"] = "https://s3/?X-Amz-Signature=1"


def _no_entrypoint(workflow: dict[str, Any]) -> None:
    workflow["spec"]["entrypoint"] = "main"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_unknown_task, "waits for 'client-nobody', which is no other task"),
        (_unknown_template, "runs 'nothing', which is no template"),
        (_twice_the_same_task, "two tasks are named 'client-digits-1'"),
        (_long_name, "expected a DNS name of at most 63 characters"),
        (_long_label, "expected at most 63 of"),
        (_no_command, "has a container without a command"),
        (_a_signed_url, "got a presigned URL"),
        (_no_entrypoint, "got the entrypoint 'main'"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_damaged_workflow_does_not_leave_the_engine(damage, message, planned, example, setting):
    workflow = compile_plan(planned(example), setting)
    check_workflow(workflow, 3)
    damage(workflow)
    with pytest.raises(JobError, match=re.escape(message)) as caught:
        check_workflow(workflow, 3)
    assert caught.value.reason == "BadWorkflow"
