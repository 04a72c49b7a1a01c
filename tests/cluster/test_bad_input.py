"""What is wrong ends in a condition or a client's state, with a reason that a person can act on."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest


def test_objects_that_do_not_exist_are_named_and_heal_in_any_order(bench):
    job, *others = bench.documents
    bench.kubectl("delete", "dataset", "digits-1", "--ignore-not-found")
    bench.kubectl("delete", "model.sedna.io", "digits-model", "--ignore-not-found")
    bench.kubectl.apply(job)
    found = bench.wait_for("ResolvedRefs", "False", seconds=30)
    assert found["reason"] in ("DatasetNotFound", "ModelNotFound")
    assert "digits-1" in found["message"] or "digits-model" in found["message"]
    bench.kubectl.apply(*others)
    bench.wait_for("ResolvedRefs", "True", seconds=30)
    bench.wait_for("Complete")


def test_a_node_that_does_not_exist_is_named(bench):
    dataset = copy.deepcopy(next(d for d in bench.documents if d["metadata"]["name"] == "digits-1"))
    dataset["metadata"]["name"] = "digits-nowhere"
    dataset["spec"]["nodeName"] = "edge-of-the-world"
    bench.documents.append(dataset)
    bench.spec["trainingWorkers"][0]["dataset"]["name"] = "digits-nowhere"
    bench.submit()
    found = bench.wait_for("ResolvedRefs", "False", seconds=30)
    assert found["reason"] == "NodeNotFound"
    assert "edge-of-the-world" in found["message"]


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        pytest.param({"image": "fedloom/none:1", "imagePullPolicy": "Never"}, "Image", id="image"),
        pytest.param({"command": ["sh", "-c", "exit 3"]}, "ScriptFailed", id="exit"),
        pytest.param({"command": ["true"]}, "NoUpdate", id="no-update"),
        pytest.param(
            {
                "command": [
                    "python",
                    "-c",
                    "x = bytearray(10**9); x[::4096] = b'x' * len(x[::4096])",
                ],
                "resources": {"limits": {"memory": "64Mi"}},
            },
            "OOMKilled",
            id="memory",
        ),
    ],
)
def test_a_client_that_fails_is_named_with_the_reason_and_the_round_goes_on(
    bench, container, reason
):
    bench.template(1).update(container)  # the first one also makes the first model
    bench.spec["rounds"] = 1
    bench.spec["participation"] |= {"minClients": 2, "deadlineSeconds": 40}
    bench.submit()
    bench.wait_for("Complete")
    client = bench.client("digits-2")
    assert client["state"] == "Failed"
    assert reason in f"{client['reason']} {client.get('message', '')}"


def test_too_few_updates_fail_the_job_with_the_clients_reasons(bench):
    script = "[ $FEDLOOM_TASK = initialize ] && exec python train.py; echo no sensor >&2; exit 3"
    for index in range(3):
        bench.template(index)["command"] = ["sh", "-c", script]
    bench.spec["participation"] |= {"minClients": 2, "retries": 0}
    bench.submit()
    found = bench.wait_for("Failed")
    assert found["reason"] == "TooFewClients"
    assert "needs 2 updates" in found["message"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"trainingWorkers": []}, "trainingWorkers", id="no-clients"),
        pytest.param({"algorithm": {"name": "fedavgx"}}, "algorithm", id="algorithm"),
        pytest.param(
            {"privacy": {"maxEpsilon": 1.0, "delta": 1e-5}}, "noiseMultiplier", id="privacy"
        ),
    ],
)
def test_an_invalid_spec_is_refused_or_said_to_be_invalid(bench, change, message):
    bench.spec.update(change)
    said = bench.kubectl("apply", "-f", "-", text=_text(bench.job), check=False)
    if not said:  # the schema refused it at once
        return
    found = bench.wait_for("Accepted", "False", seconds=30)
    assert message in found["message"]


def test_a_template_with_two_containers_or_none_is_refused(bench):
    bench.spec["trainingWorkers"][0]["template"]["spec"]["containers"] *= 2
    bench.spec["trainingWorkers"][0]["template"]["spec"]["containers"] = [
        {**c, "name": f"c{i}"}
        for i, c in enumerate(bench.spec["trainingWorkers"][0]["template"]["spec"]["containers"])
    ]
    bench.submit()
    found = bench.kubectl.until(
        lambda: (
            next(
                (
                    c
                    for c in bench.status().get("conditions", [])
                    if c["status"] == "False" and c["type"] == "Accepted"
                ),
                None,
            )
            or (
                bench.condition("Failed")
                if bench.condition("Failed").get("status") == "True"
                else None
            )
        ),
        seconds=60,
        why="a refusal",
    )
    assert "container" in found["message"]


def _text(document: dict) -> str:
    from fedloom.api.documents import render_documents

    return render_documents([document])


def test_a_secret_without_keys_is_named_and_heals(bench):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "no-keys"}}
    bench.kubectl.apply(secret)
    s3 = {"aggDataPath": "s3://fedloom/elsewhere", "credentialName": "no-keys"}
    bench.spec["transmitter"] = {"s3": s3}
    bench.submit()
    bench.wait_for("ResolvedRefs", "False")
    found = bench.condition("ResolvedRefs")
    assert found["reason"] == "SecretIncomplete"
    assert "no-keys" in found["message"]
    assert "ACCESS_KEY_ID" in found["message"]


def test_a_bucket_that_does_not_exist_is_named(bench):
    keys = bench.kubectl("-n", "fedloom-system", "get", "secret", "fedloom-store", "-o", "json")
    data = json.loads(keys)["data"]
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "store",
            "annotations": {
                "s3-endpoint": "minio.fedloom-system.svc:9000",
                "s3-usehttps": "0",
            },
        },
        "data": {
            "ACCESS_KEY_ID": data["AWS_ACCESS_KEY_ID"],
            "SECRET_ACCESS_KEY": data["AWS_SECRET_ACCESS_KEY"],
        },
    }
    bench.kubectl.apply(secret)
    s3 = {"aggDataPath": "s3://no-such-bucket/x", "credentialName": "store"}
    bench.spec["transmitter"] = {"s3": s3}
    bench.submit()

    def told() -> bool:
        return any(
            each.get("reason") == "BucketNotFound" and "no-such-bucket" in each["message"]
            for each in bench.status().get("conditions", [])
        )

    bench.kubectl.until(told, why="the missing bucket")


def test_a_job_whose_name_has_63_characters_runs(bench):
    bench.job["metadata"]["name"] = ("a-name-as-long-as-a-label-may-be-" * 2)[:62] + "z"
    bench.spec["rounds"] = 1
    bench.submit()
    bench.wait_for("Complete")
    assert [client["state"] for client in bench.status()["clients"]] == ["Succeeded"] * 3


def test_a_status_edited_by_hand_is_put_right_and_no_round_is_lost(bench):
    bench.submit()
    bench.kubectl.until(lambda: bench.status().get("aggregationCount") == 1, why="round 1")
    forged = '{"status": {"phase": "Succeeded", "currentRound": 77, "aggregationCount": 76}}'
    bench.kubectl("patch", "fl", bench.name, "--subresource=status", "--type=merge", "-p", forged)
    bench.wait_for("Complete")
    status = bench.status()
    assert (status["currentRound"], status["aggregationCount"]) == (2, 2)


def test_ten_thousand_workers_in_one_job_are_refused_with_the_limit(bench, tmp_path):
    worker = copy.deepcopy(bench.spec["trainingWorkers"][0])
    bench.spec["trainingWorkers"] = [worker] * 10_000
    path = tmp_path / "job.json"
    path.write_text(json.dumps(bench.job))
    found = subprocess.run(
        [sys.executable, "-m", "cli.main", "submit", "-n", "fedloom-test", "-f", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "bytes" in found.stderr + found.stdout
    refused = subprocess.run(
        ["kubectl", "-n", "fedloom-test", "create", "-f", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode != 0
    assert "large" in refused.stderr or "limit" in refused.stderr
