"""What a pipeline cannot be is refused when it is compiled, with a reason and what to do instead."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli.compile import compile_job, compile_round
from cli.main import commands
from fedloom.errors import JobError
from pipelines.engines import kfp_checks
from pipelines.engines.kfp import compile_plan

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
EXAMPLE, MISTNET = EXAMPLES / "08-kfp/job.yaml", EXAMPLES / "07-mistnet-digits/job.yaml"


def pod_of(documents: list[dict[str, Any]]) -> dict[str, Any]:
    pod: dict[str, Any] = documents[0]["spec"]["trainingWorkers"][0]["template"]["spec"]
    return pod


def container_with(documents: list[dict[str, Any]], **fields: Any) -> None:
    pod_of(documents)["containers"][0].update(fields)


def refused(planned, documents, setting, number: int = 1) -> JobError:
    with pytest.raises(JobError) as caught:
        compile_plan(planned(documents, number), setting)
    return caught.value


def host_path_dataset(documents):
    documents[1]["spec"]["url"] = "/data/1/x.npz"


def host_path_evaluation(documents):
    (dataset,) = (each for each in documents if each["metadata"]["name"] == "digits-test")
    dataset["spec"]["url"] = "/data/test.npz"


def host_path_volume(documents):
    pod_of(documents)["volumes"] = [{"name": "data", "hostPath": {"path": "/data"}}]
    container_with(documents, volumeMounts=[{"name": "data", "mountPath": "/data"}])


@pytest.mark.parametrize("change", [host_path_dataset, host_path_evaluation, host_path_volume])
def test_a_folder_of_a_node_is_refused_with_the_claim_named(example, planned, kfp_setting, change):
    change(example)
    error = refused(planned, example, kfp_setting)
    assert error.reason == "HostPathNotSupported"
    assert "persistentVolumeClaim" in error.message


def test_state_in_a_folder_of_the_node_is_refused_with_the_claim_named(
    example, planned, kfp_setting
):
    error = refused(planned, example, replace(kfp_setting, edge_state_path="/var/lib/fedloom"))
    assert error.reason == "HostPathNotSupported"
    assert "spec.edge.state.claim" in error.message


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"compression": {"uplink": {"codec": "topk", "fraction": 0.1}}}, "errorFeedback"),
        ({"algorithm": {"name": "scaffold"}}, "scaffold"),
        ({"aggregation": {"exclude": ["output.*"]}}, "aggregation.exclude"),
        (
            {"privacy": {"secureAggregation": True, "maxValue": 1.0}, "compression": {}},
            "secureAggregation",
        ),
    ],
)
def test_what_needs_state_between_pods_is_refused_without_a_claim_and_taken_with_one(
    example, planned, kfp_setting, spec, named
):
    example[0]["spec"].update(spec)
    error = refused(planned, example, kfp_setting)
    assert error.reason == "NeedsEdgeState"
    assert named in error.message
    compile_plan(planned(example), replace(kfp_setting, edge_state_claim="state-{node}"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("image", "registry/{{workflow.name}}:1"), ("workingDir", "/app}}")],
)
def test_braces_in_what_becomes_a_part_of_the_pipeline_are_refused(
    example, planned, kfp_setting, field, value
):
    container_with(example, **{field: value})
    assert refused(planned, example, kfp_setting).reason == "TemplateBraces"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "x"}}}]}, "env A"),
        ({"envFrom": [{"secretRef": {"name": "x"}}]}, "container.envFrom"),
        ({"command": []}, "a container without a command"),
        ({"livenessProbe": {"exec": {"command": ["true"]}}}, "container.livenessProbe"),
        ({"resources": {"limits": {"ephemeral-storage": "1Gi"}}}, "the limit ephemeral-storage"),
        ({"resources": {"requests": {"memory": "lots"}}}, "kfp says"),
        ({"securityContext": {"privileged": True}}, "securityContext.privileged"),
        ({"volumeMounts": [{"name": "x", "mountPath": "/x"}]}, "a mount of the volume 'x'"),
        ({"volumeMounts": [{"name": "x", "mountPath": "/fedloom/x"}]}, "/fedloom is Fedloom's own"),
    ],
)
def test_a_container_that_kfp_cannot_express_is_refused_by_what_it_cannot(
    example, planned, kfp_setting, fields, named
):
    container_with(example, **fields)
    error = refused(planned, example, kfp_setting)
    assert error.reason == "BadTemplate"
    assert named in error.message


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"initContainers": [{"name": "i", "image": "x"}]}, "initContainers"),
        ({"hostNetwork": True}, "spec.hostNetwork"),
        ({"runtimeClassName": "gvisor"}, "spec.runtimeClassName"),
        ({"affinity": {"podAffinity": {"x": 1}}}, "affinity.podAffinity"),
    ],
)
def test_a_pod_that_kfp_cannot_express_is_refused_by_what_it_cannot(
    example, planned, kfp_setting, fields, named
):
    pod_of(example).update(fields)
    error = refused(planned, example, kfp_setting)
    assert error.reason == "BadTemplate"
    assert named in error.message


@pytest.mark.parametrize(
    "volume", [{"nfs": {"server": "x"}}, {"secret": {"secretName": "s", "items": []}}]
)
def test_a_volume_that_kfp_does_not_know_is_refused(example, planned, kfp_setting, volume):
    pod_of(example)["volumes"] = [{"name": "x", **volume}]
    container_with(example, volumeMounts=[{"name": "x", "mountPath": "/x"}])
    assert refused(planned, example, kfp_setting).reason == "BadTemplate"


def mistnet_job(tmp_path: Path, **spec: Any) -> Path:
    documents = list(yaml.safe_load_all(MISTNET.read_text()))
    documents[0]["spec"].update(spec)
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


def test_mistnet_needs_a_claim_for_its_noise_keys_and_is_taken_with_one(tmp_path):
    with pytest.raises(JobError) as caught:
        compile_round([mistnet_job(tmp_path)], "kfp", 1)
    assert caught.value.reason == "NeedsEdgeState"
    state = {"state": {"claim": "fedloom-{node}"}}
    pipeline, platform = yaml.safe_load_all(
        compile_round([mistnet_job(tmp_path, edge=state)], "kfp", 1)
    )
    names = {
        task["taskInfo"]["name"]
        for task in pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"].values()
    }
    assert "release: digits-edge-0 on edge-0" in names
    own = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert own["exec-client-digits-edge-0"]["pvcMount"][0]["constant"] == "fedloom-edge-0"


def test_programs_of_one_container_must_be_in_one_image(tmp_path):
    other = {"spec": {"containers": [{"name": "e", "image": "other", "command": ["e"]}]}}
    evaluation = {"dataset": {"name": "digits-test"}, "template": other}
    with pytest.raises(JobError) as caught:
        compile_round([mistnet_job(tmp_path, evaluation=evaluation)], "kfp", 1)
    assert caught.value.reason == "NeedsEdgeState"  # the clients come first
    state = {"state": {"claim": "fedloom-{node}"}}
    with pytest.raises(JobError) as caught:
        compile_round([mistnet_job(tmp_path, evaluation=evaluation, edge=state)], "kfp", 1)
    assert caught.value.reason == "BadTemplate"
    assert "expected one: they run in the same container" in caught.value.message


def test_clients_that_call_the_server_in_mid_round_are_refused(example, planned, kfp_setting):
    spec = example[0]["spec"]
    kept = ("aggregationWorker", "trainingWorkers", "rounds")
    example[0]["spec"] = {name: spec[name] for name in kept} | {"compat": "websocket"}
    error = refused(planned, example, kfp_setting)
    assert error.reason == "NotOnKfp"
    assert "argo" in error.message


def test_a_package_that_etcd_would_not_take_is_refused(crowd, planned, kfp_setting, monkeypatch):
    monkeypatch.setattr(kfp_checks, "MOST_BYTES", 10_000)
    error = refused(planned, crowd(20), kfp_setting)
    assert error.reason == "PackageTooLarge"
    assert "spec.participation.clientsPerRound" in error.message


def test_a_component_longer_than_one_argument_is_refused(crowd, planned, kfp_setting, monkeypatch):
    monkeypatch.setattr(kfp_checks, "MOST_ARGUMENT_BYTES", 2_000)
    error = refused(planned, crowd(20), kfp_setting)
    assert error.reason == "PackageTooLarge"
    assert "comp-exit-handler-1: got" in error.message


def test_a_whole_job_whose_data_a_secret_opens_is_refused(tmp_path):
    text = EXAMPLE.read_text().replace("url: data/client-1.npz", "url: s3://bucket/client-1.npz")
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(JobError) as caught:
        compile_job([path])
    assert caught.value.reason == "NotInOnePipeline"
    assert "s3://bucket/client-1.npz" in caught.value.message


def test_an_installation_without_kfp_says_what_to_install(
    example, planned, kfp_setting, monkeypatch
):
    monkeypatch.setitem(sys.modules, "kfp", None)
    error = refused(planned, example, kfp_setting)
    assert error.reason == "NoKfp"
    assert "pip install 'fedloom[kfp]'" in error.message


def test_all_rounds_goes_with_kfp_only():
    done = CliRunner().invoke(commands, ["compile", "-f", str(EXAMPLE), "--all-rounds"])
    assert done.exit_code == 2
    assert "--engine kfp" in done.output
