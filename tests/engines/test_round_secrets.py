"""The Secrets of a round: each node gets what its client needs, and nothing of anybody else."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from fedloom.errors import JobError
from pipelines.engines import argo_secrets
from pipelines.engines.argo import compile_plan
from pipelines.plan import Task

ACCESS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "very-secret"}


def urls(task: Task) -> dict[str, dict[str, str]]:
    signed = f"https://s3.example/{task.name}?X-Amz-Signature=0f"
    gets = {each["key"]: signed for each in task.inputs.values()}
    return {"get": gets, "put": dict.fromkeys(task.outputs.values(), signed)}


def opened(secret: dict[str, Any]) -> dict[str, str]:
    return {k: base64.b64decode(v).decode() for k, v in secret["data"].items()}


def test_a_client_gets_its_own_tasks_and_urls_only(planned, example, setting):
    plan = planned(example)
    secrets = argo_secrets.client_secrets(plan, setting, urls)
    assert [s["metadata"]["name"] for s in secrets] == [
        f"digits-8c2f1a77-r1-a1-edge-{number}" for number in range(3)
    ]
    text = json.dumps(opened(secrets[0]))
    assert "digits-2" not in text
    assert "digits-3" not in text
    slice_ = json.loads(opened(secrets[0])["digits-1.json"])
    assert [task["name"] for task in slice_["tasks"]] == ["train-digits-1", "compress-digits-1"]
    assert slice_["urls"]["put"].keys() == set(plan.tasks[1].outputs.values())
    assert {"job", "round", "rounds", "attempt"} < slice_.keys()


def test_every_key_that_a_pod_refers_to_is_in_its_secret(planned, example, setting):
    plan = planned(example)
    files = {
        (s["metadata"]["name"], key)
        for s in (
            *argo_secrets.client_secrets(plan, setting, urls),
            argo_secrets.server_secret(plan, setting, ACCESS),
        )
        for key in s["data"]
    }
    text = json.dumps(compile_plan(plan, setting)["spec"]["templates"][1:])
    for part, client in enumerate(plan.cohort):
        filled = text.replace("{{inputs.parameters.client}}", client)
        filled = filled.replace("{{inputs.parameters.part}}", str(part))
        assert set(references(json.loads(filled))) <= files


def references(value: Any) -> list[tuple[str, str]]:
    """Every (Secret, key) that must exist."""
    if isinstance(value, list):
        return [found for each in value for found in references(each)]
    if not isinstance(value, dict):
        return []
    if "secretName" in value:
        return [(value["secretName"], item["key"]) for item in value["items"]]
    if "secretKeyRef" in value and not value["secretKeyRef"].get("optional"):
        return [(value["secretKeyRef"]["name"], value["secretKeyRef"]["key"])]
    return [found for each in value.values() for found in references(each)]


def test_what_differs_from_client_to_client_comes_from_its_secret(planned, example, setting):
    plan = planned(example)
    found = opened(argo_secrets.client_secrets(plan, setting, urls)[1])
    assert found["digits-2.train.FEDLOOM_SEED"] == str(plan.tasks[2].settings["seed"])
    assert found["digits-2.train.TRAIN_DATASET_URL"] == "data/client-2.npz"
    assert found["digits-2.train.WORKER_NAME"] == "trainworker-digits-2"


def test_no_secret_is_in_a_workflow(planned, example, setting):
    plan = planned(example)
    workflow = json.dumps(compile_plan(plan, setting))
    for secret in (
        *argo_secrets.client_secrets(plan, setting, urls),
        argo_secrets.server_secret(plan, setting, ACCESS),
    ):
        assert secret["metadata"]["name"].rpartition("-")[0] in workflow
    assert "very-secret" not in workflow
    assert "X-Amz-Signature" not in workflow


def test_the_server_gets_the_clouds_tasks_and_the_keys(planned, example, setting):
    plan = planned(example)
    found = opened(argo_secrets.server_secret(plan, setting, ACCESS | {"AWS_SESSION_TOKEN": ""}))
    document = json.loads(found["plan.json"])
    assert [task["step"] for task in document["tasks"]] == ["aggregate", "evaluate", "commit"]
    assert document["cohort"] == list(plan.cohort)
    assert found["AWS_SECRET_ACCESS_KEY"] == "very-secret"
    assert "AWS_SESSION_TOKEN" not in found


def test_a_missing_key_of_the_store_is_named(planned, example, setting):
    with pytest.raises(JobError, match="AWS_SECRET_ACCESS_KEY: got nothing") as caught:
        argo_secrets.server_secret(planned(example), setting, {"AWS_ACCESS_KEY_ID": "key"})
    assert caught.value.reason == "NoStoreAccess"


def test_many_clients_share_secrets_of_a_megabyte_at_most(planned, crowd, setting):
    plan = planned(crowd(1_000))
    secrets = argo_secrets.client_secrets(plan, setting, urls)
    assert len(secrets) == 20
    assert max(sum(map(len, opened(s).values())) for s in secrets) < argo_secrets.MOST_BYTES


def test_urls_too_long_for_a_secret_are_refused(planned, crowd, setting):
    plan = planned(crowd(65))
    with pytest.raises(JobError, match="expected at most 1048576") as caught:
        argo_secrets.client_secrets(plan, setting, lambda _: {"get": {"key": "u" * 30_000}})
    assert caught.value.reason == "SecretTooLarge"


def test_secrets_belong_to_the_job_and_then_to_the_workflow(planned, example, setting):
    secret = argo_secrets.client_secrets(planned(example), setting, urls)[0]
    (owner,) = secret["metadata"]["ownerReferences"]
    assert owner["kind"] == "FederatedLearningJob"
    workflow = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "w", "uid": "u"},
    }
    (owner,) = argo_secrets.owned_by(workflow)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Workflow", "u")


def test_orders_are_secrets_of_their_own(planned, example, setting):
    plan = planned(example)
    assert argo_secrets.dispatch_secrets(plan, setting) == []
    (secret,) = argo_secrets.dispatch_secrets(plan, replace(setting, dispatched={"digits-2"}))
    assert secret["metadata"]["name"] == "digits-8c2f1a77-r1-a1-dispatch-0"
    assert list(secret["data"]) == ["digits-8c2f1a77-r1-a1-dispatch-0.json"]
