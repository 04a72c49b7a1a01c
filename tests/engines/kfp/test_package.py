"""What a compiled package says: read back by KFP's own schemas, claim by claim."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as platform_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from cli.compile import compile_job, compile_round
from pipelines.engines.kfp import Package, compile_plan
from pipelines.engines.kfp_components import texts
from pipelines.engines.kfp_names import clients_by_task, experiment_name, pipeline_name, run_name
from pipelines.engines.kfp_secrets import files_of, secrets_of

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "examples/08-kfp"


def urls(task) -> dict[str, dict[str, str]]:
    return {"get": {}, "put": {key: f"https://s/{key}" for key in task.outputs.values()}}


KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


def executors(package: Package) -> Mapping[str, Any]:
    return package.pipeline["deploymentSpec"]["executors"]


def platform_of(package: Package) -> Mapping[str, Any]:
    return package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def tasks_of(pipeline: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every task of every DAG."""
    for own in (pipeline["root"], *pipeline["components"].values()):
        yield from own.get("dag", {}).get("tasks", {}).items()


def is_group(pipeline: Mapping[str, Any], task: Mapping[str, Any]) -> bool:
    return "dag" in pipeline["components"][task["componentRef"]["name"]]


def pods_of(pipeline: Mapping[str, Any], name: str = "root") -> int:
    """Pods of a run: a driver for each DAG, a driver and an executor for each task."""
    own = pipeline["root"] if name == "root" else pipeline["components"][name]
    inner = [task["componentRef"]["name"] for task in own["dag"]["tasks"].values()]
    return 1 + sum(
        pods_of(pipeline, each) if "dag" in pipeline["components"][each] else 2 for each in inner
    )


def check_schemas(package: Package) -> None:
    """Read both documents by KFP's own schemas, which know no other fields."""
    json_format.ParseDict(package.pipeline, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(package.platform, pipeline_spec_pb2.PlatformSpec())
    for config in platform_of(package).values():
        json_format.ParseDict(config, platform_pb2.KubernetesExecutorConfig())


@pytest.mark.parametrize(
    ("file", "compiled"),
    [
        ("round-1.kfp.yaml", lambda job: compile_round([job], "kfp", 1)),
        ("job.kfp.yaml", lambda job: compile_job([job])),
    ],
)
def test_the_compiled_packages_beside_the_example_are_what_the_job_compiles_to(file, compiled):
    """`make compiled` writes them."""
    text = compiled(EXAMPLE / "job.yaml")
    assert (EXAMPLE / "compiled" / file).read_text() == text
    pipeline, platform = yaml.safe_load_all(text)
    check_schemas(Package(pipeline, platform))


def test_the_published_components_are_what_the_steps_are():
    folder = REPOSITORY / "components/kfp"
    assert {path.name: path.read_text() for path in folder.glob("*.yaml")} == texts()


@pytest.mark.parametrize("count", [3, 101])
def test_no_task_is_cached_wherever_it_stands(crowd, planned, kfp_setting, count):
    pipeline = compile_plan(planned(crowd(count)), kfp_setting).pipeline
    tasks = [task for _, task in tasks_of(pipeline) if not is_group(pipeline, task)]
    assert len(tasks) == (4 if count == 3 else 3)
    assert all(task["cachingOptions"] == {} for task in tasks)
    assert "enableCache" not in json.dumps(pipeline)


def test_every_client_is_bound_to_its_node_and_has_its_own_secret(example, planned, kfp_setting):
    plan = planned(example)
    package = compile_plan(plan, kfp_setting)
    check_schemas(package)
    secrets = {
        each["metadata"]["name"]: files_of(each)
        for each in secrets_of(plan, kfp_setting, urls, KEYS)
    }
    for number in (1, 2, 3):
        config = platform_of(package)[f"exec-client-digits-{number}"]
        assert config["nodeSelector"]["labels"] == {"kubernetes.io/hostname": f"edge-{number}"}
        (mount,) = config["secretAsVolume"]
        assert mount["mountPath"] == "/fedloom/plan"
        (file,) = secrets[mount["secretName"]]
        assert (
            f"/fedloom/plan/{file}"
            in executors(package)[f"exec-client-digits-{number}"]["container"]["args"]
        )
        told = json.loads(secrets[mount["secretName"]][file])
        assert {task["client"] for task in told["tasks"]} == {f"digits-{number}"}
    (mount,) = platform_of(package)["exec-server"]["secretAsVolume"]
    assert secrets[mount["secretName"]].keys() == {"plan.json", *KEYS}


def test_the_server_runs_when_all_clients_have_ended_however_they_did(
    example, planned, kfp_setting
):
    pipeline = compile_plan(planned(example), kfp_setting).pipeline
    server = pipeline["root"]["dag"]["tasks"]["server"]
    assert server["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert server["dependentTasks"] == ["exit-handler-1"]
    assert pipeline["root"]["dag"]["tasks"]["exit-handler-1"]["taskInfo"] == {"name": "clients"}
    assert pods_of(pipeline) == 2 * 3 + 4


def test_people_see_who_trains_where_and_what_the_server_does(example, planned, kfp_setting):
    plan = planned(example)
    pipeline = compile_plan(plan, kfp_setting).pipeline
    names = {task["taskInfo"]["name"] for _, task in tasks_of(pipeline)}
    clients = {f"train: digits-{n} on edge-{n}": f"digits-{n}" for n in (1, 2, 3)}
    assert names == {*clients, "clients", "aggregate, evaluate and commit"}
    assert clients_by_task(plan) == clients | {
        f"client-digits-{n}": f"digits-{n}" for n in (1, 2, 3)
    }
    assert experiment_name(plan) == "digits-8c2f1a77"
    assert run_name(plan) == "digits / round 001"
    assert run_name(replace(plan, attempt=2)) == "digits / round 001 / attempt 2"
    assert pipeline["pipelineInfo"]["name"] == pipeline_name(plan) == "digits-8c2f1a77-r1-a1"


def test_outputs_are_metrics_of_each_client_and_of_the_round_a_page_and_the_model(
    example, planned, kfp_setting
):
    components = compile_plan(planned(example), kfp_setting).pipeline["components"]

    def kinds(name: str) -> dict[str, str]:
        found = components[name]["outputDefinitions"]["artifacts"]
        return {key: each["artifactType"]["schemaTitle"] for key, each in found.items()}

    assert kinds("comp-client-digits-1") == {"metrics": "system.Metrics"}
    server = {"metrics": "Metrics", "summary": "Markdown", "model": "Model"}
    assert kinds("comp-server") == {name: f"system.{kind}" for name, kind in server.items()}


def test_resources_deadlines_tolerations_and_the_place_of_the_server_are_said(
    example, planned, kfp_setting
):
    toleration = {"key": "edge", "operator": "Exists", "effect": "NoSchedule"}
    example[0]["spec"]["trainingWorkers"][0]["template"]["spec"]["tolerations"] = [toleration]
    example[0]["spec"]["aggregationWorker"]["template"]["spec"]["nodeSelector"] = {"role": "cloud"}
    package = compile_plan(planned(example), kfp_setting)
    check_schemas(package)
    container = executors(package)["exec-client-digits-1"]["container"]
    assert container["resources"]["resourceCpuRequest"] == "100m"
    assert container["resources"]["resourceMemoryRequest"] == "128Mi"
    config = platform_of(package)["exec-client-digits-1"]
    assert config["tolerations"] == [toleration]
    assert config["activeDeadlineSeconds"] == "180"  # the deadline and its grace
    assert config["imagePullPolicy"] == "IfNotPresent"
    assert platform_of(package)["exec-server"]["nodeSelector"]["labels"] == {"role": "cloud"}


@pytest.mark.parametrize("count", [3, 101])
def test_the_server_is_kept_where_its_setting_says_unless_the_job_names_a_place(
    crowd, planned, kfp_setting, count
):
    setting = replace(kfp_setting, server_selector={"fedloom.io/cloud": "yes"})
    documents = crowd(count)
    own = platform_of(compile_plan(planned(documents), setting))
    servers = {name: each for name, each in own.items() if name in ("exec-server", "exec-cohort")}
    assert len(servers) == (1 if count == 3 else 2)
    for each in servers.values():
        assert each["nodeSelector"]["labels"] == {"fedloom.io/cloud": "yes"}
    documents[0]["spec"]["aggregationWorker"]["template"]["spec"]["nodeName"] = "cloud-1"
    own = platform_of(compile_plan(planned(documents), setting))
    assert own["exec-server"]["nodeSelector"]["labels"] == {"kubernetes.io/hostname": "cloud-1"}


def test_variables_that_only_the_cluster_knows_reach_the_container_and_others_the_plan(
    example, planned, kfp_setting
):
    template = example[0]["spec"]["trainingWorkers"][0]["template"]
    template["spec"]["containers"][0]["env"] = [
        {"name": "PLAIN", "value": "{{anything}}"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "m"}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    plan = planned(example)
    package = compile_plan(plan, kfp_setting)
    check_schemas(package)
    config = platform_of(package)["exec-client-digits-1"]
    assert config["secretAsEnv"][0]["keyToEnv"] == [{"secretKey": "k", "envVar": "TOKEN"}]
    assert config["configMapAsEnv"][0]["keyToEnv"] == [{"configMapKey": "m", "envVar": "MODE"}]
    assert config["fieldPathAsEnv"] == [{"name": "POD", "fieldPath": "metadata.name"}]
    arguments = executors(package)["exec-client-digits-1"]["container"]["args"]
    own = [arguments[i + 1] for i, each in enumerate(arguments) if each == "--own"]
    assert own == ["MODE", "POD", "TOKEN"]
    assert "anything" not in json.dumps(package.pipeline)
    (secret,) = [
        each
        for each in secrets_of(plan, kfp_setting, urls, KEYS)
        if "digits-1.json" in files_of(each)
    ]
    told = json.loads(files_of(secret)["digits-1.json"])["tasks"][0]["settings"]["environment"]
    assert told["PLAIN"] == "{{anything}}"


def test_claims_and_other_volumes_are_mounted(example, planned, kfp_setting):
    pod = example[0]["spec"]["trainingWorkers"][0]["template"]["spec"]
    pod["volumes"] = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-1"}},
        {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "certificates", "configMap": {"name": "ca"}},
    ]
    pod["containers"][0]["volumeMounts"] = [
        {"name": "data", "mountPath": "/data"},
        {"name": "scratch", "mountPath": "/scratch"},
        {"name": "certificates", "mountPath": "/ca"},
    ]
    example[1]["spec"]["url"] = "/data/client-1.npz"  # in the claim, so no folder of the node
    package = compile_plan(
        planned(example), replace(kfp_setting, edge_state_claim="state-{node}-{client}")
    )
    check_schemas(package)
    config = platform_of(package)["exec-client-digits-1"]
    claims = [(each["constant"], each["mountPath"]) for each in config["pvcMount"]]
    assert claims == [("data-1", "/data"), ("state-edge-1-digits-1", "/fedloom/edge")]
    assert config["emptyDirMounts"][0]["mountPath"] == "/scratch"
    assert config["configMapAsVolume"][0]["mountPath"] == "/ca"
    assert "--edge" in executors(package)["exec-client-digits-1"]["container"]["args"]


def test_the_run_of_mlflow_is_told_to_the_server_under_names_of_our_own(
    example, planned, kfp_setting
):
    setting = replace(kfp_setting, tracking={"run_id": "abc", "url": "http://mlflow/#/abc"})
    container = executors(compile_plan(planned(example), setting))["exec-server"]["container"]
    told = {each["name"]: each["value"] for each in container["env"]}
    assert told == {
        "FEDLOOM_TRACKING_RUN_ID": "abc",
        "FEDLOOM_TRACKING_URL": "http://mlflow/#/abc",
    }


def test_the_pipeline_root_is_said_where_there_is_one(example, planned, kfp_setting):
    plan = planned(example)
    assert "defaultPipelineRoot" not in compile_plan(plan, kfp_setting).pipeline
    package = compile_plan(plan, replace(kfp_setting, pipeline_root="s3://fedloom/kfp"))
    assert package.pipeline["defaultPipelineRoot"] == "s3://fedloom/kfp"


def test_secrets_are_owned_by_nobody_and_lie_where_kfp_runs_pods(example, planned, kfp_setting):
    for secret in secrets_of(planned(example), kfp_setting, urls, KEYS):
        metadata = secret["metadata"]
        assert metadata["namespace"] == "kubeflow"
        assert "ownerReferences" not in metadata
        assert metadata["labels"]["federatedlearningjob.sedna.io/name"] == "digits"


def test_mid_round_tasks_of_secure_aggregation_keep_their_order(example, planned, kfp_setting):
    example[0]["spec"]["privacy"] = {"secureAggregation": True, "maxValue": 1.0}
    del example[0]["spec"]["compression"]
    package = compile_plan(
        planned(example), replace(kfp_setting, edge_state_claim="fedloom-{client}")
    )
    check_schemas(package)
    tasks = dict(tasks_of(package.pipeline))
    assert set(tasks["roster"]["dependentTasks"]) == {f"advertise-digits-{n}" for n in (1, 2, 3)}
    assert tasks["share-digits-1"]["dependentTasks"] == ["roster"]
    assert tasks["client-digits-1"]["dependentTasks"] == ["exchange"]
    assert tasks["server"]["dependentTasks"] == ["exit-handler-1"]


def test_a_round_of_zero_clients_makes_the_first_model(example, planned, kfp_setting):
    package = compile_plan(planned(example, 0), kfp_setting)
    check_schemas(package)
    assert list(package.pipeline["root"]["dag"]["tasks"]) == ["server"]
