"""Settings, manifests and rights agree with what the engine does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from controller.cluster.settings import read_settings
from fedloom.errors import InvalidJobError

ROOT = Path(__file__).resolve().parents[2]
ENOUGH = {"FEDLOOM_STEPS_IMAGE": "x"}


@pytest.fixture(scope="module")
def rendered():
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl on the path: nothing renders the overlay")
    overlay = ROOT / "manifests/overlays/quickstart-kfp"
    text = subprocess.run(
        ["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, check=True
    ).stdout
    documents = [each for each in yaml.safe_load_all(text) if each]
    return {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each
        for each in documents
    }


def test_without_an_endpoint_there_is_no_backend():
    settings = read_settings(ENOUGH)
    assert (settings.engine, settings.kfp) == ("argo", None)


def test_all_settings_are_read():
    given = {
        "FEDLOOM_ENGINE": "kfp",
        "FEDLOOM_KFP_ENDPOINT": "http://ml-pipeline.kubeflow:8888/",
        "FEDLOOM_KFP_NAMESPACE": "*",
        "FEDLOOM_KFP_TOKEN_FILE": "/token",
        "FEDLOOM_KFP_CA_FILE": "/ca.crt",
        "FEDLOOM_KFP_UI": "https://kfp.example.com/",
        "FEDLOOM_KFP_PIPELINE_ROOT": "s3://fedloom/kfp/",
        "FEDLOOM_KFP_SERVICE_ACCOUNT": "runner",
        "FEDLOOM_KFP_SERVER_NODES": "node-role.kubernetes.io/cloud=, disk=ssd",
    }
    settings = read_settings(ENOUGH | given)
    kfp = settings.kfp
    assert settings.engine == "kfp"
    assert kfp.connection.endpoint == "http://ml-pipeline.kubeflow:8888"
    assert (kfp.connection.token_path, kfp.connection.ca_path) == (Path("/token"), Path("/ca.crt"))
    assert (kfp.namespace_of("ns"), kfp.api_namespace("ns")) == ("ns", "ns")
    assert kfp.page_of("id") == "https://kfp.example.com/#/runs/details/id"
    assert (kfp.pipeline_root, kfp.service_account) == ("s3://fedloom/kfp", "runner")
    assert kfp.server_nodes == {"node-role.kubernetes.io/cloud": "", "disk": "ssd"}
    one_user = read_settings(ENOUGH | {"FEDLOOM_KFP_ENDPOINT": "http://x"}).kfp
    assert (one_user.namespace_of("ns"), one_user.api_namespace("ns")) == ("kubeflow", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FEDLOOM_ENGINE", "tekton"),
        ("FEDLOOM_KFP_ENDPOINT", "ml-pipeline.kubeflow:8888"),
        ("FEDLOOM_KFP_UI", "kfp.example.com"),
        ("FEDLOOM_KFP_PIPELINE_ROOT", "fedloom/kfp"),
        ("FEDLOOM_KFP_SERVER_NODES", "cloud"),
    ],
)
def test_a_wrong_setting_is_refused_at_its_variable(name, value):
    given = ENOUGH | {"FEDLOOM_KFP_ENDPOINT": "http://x"} | {name: value}
    with pytest.raises(InvalidJobError) as raised:
        read_settings(given)
    assert [problem.field for problem in raised.value.problems] == [name]


def test_the_overlay_gives_the_controller_an_endpoint_and_a_token(rendered):
    data = rendered["ConfigMap", "fedloom-system", "fedloom-controller"]["data"]
    kfp = read_settings(ENOUGH | {k: v for k, v in data.items() if "_KFP_" in k}).kfp
    assert kfp.connection.endpoint == "http://ml-pipeline.kubeflow:8888"
    pod = rendered["Deployment", "fedloom-system", "fedloom-controller"]["spec"]["template"]["spec"]
    mounts = {each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert str(kfp.connection.token_path.parent) in mounts
    (volume,) = [each for each in pod["volumes"] if each["name"] == "kfp-token"]
    token = volume["projected"]["sources"][0]["serviceAccountToken"]
    assert (token["audience"], token["path"]) == (
        "pipelines.kubeflow.org",
        kfp.connection.token_path.name,
    )


def test_the_controller_may_do_what_it_does_where_runs_are_and_reads_no_secret(bench, rendered):
    bench.apply_job(rounds=1)
    bench.look()
    bench.round(0)
    bench.round(1)
    bench.server.set_state(bench.run(1)["run_id"], "SUCCEEDED")
    bench.look()
    used = {
        (verb, plural)
        for verb, plural, namespace in bench.cluster.used
        if namespace == "kubeflow" and plural in ("configmaps", "secrets")
    }
    role = rendered["Role", "kubeflow", "fedloom-controller"]
    allowed = {
        (verb, plural)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for plural in rule["resources"]
    }
    assert used <= allowed
    assert {verb for verb, plural in allowed if plural == "secrets"} == {
        "create",
        "patch",
        "delete",
    }
