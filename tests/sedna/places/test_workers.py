"""What a worker's container of a Sedna job is told and sees: variables, folders, never the root."""

from __future__ import annotations

import json

import pytest

from pipelines.engines.argo import compile_plan

S3 = {"s3": {"aggDataPath": "s3://bucket/fl", "credentialName": "mysecret"}, "ws": {}}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "mysecret", "annotations": {"s3-endpoint": "minio:9000"}},
    "stringData": {"ACCESS_KEY_ID": "AKIDPLAIN", "SECRET_ACCESS_KEY": "very-secret"},
}


def model(name: str, url: str) -> dict:
    version = "sedna.io/v1alpha1"
    spec = {"url": url, "format": "pth"}
    return {"apiVersion": version, "kind": "Model", "metadata": {"name": name}, "spec": spec}


def with_pretrained(sedna, url: str):
    sedna.models["pre"] = model("pre", url)
    sedna.spec["pretrainedModel"] = {"name": "pre"}
    return sedna


def test_a_worker_finds_sednas_variables(sedna, seen):
    found = seen(with_pretrained(sedna, "/pretrained/yolo.pth")).env
    expected = {
        "NAMESPACE": "default",
        "JOB_NAME": "yolo",
        "WORKER_NAME": "trainworker-coco-1",
        "PARTICIPANTS_COUNT": "2",
        "MODEL_NAME": "out",
        "DATASET_NAME": "coco-1",
        "TRANSMITTER": "ws",
        "MODEL_URL": "/home/data/model/yolo.pth",
        "PRETRAINED_MODEL_URL": "/home/data/pretrained/yolo.pth",
        "TRAIN_DATASET_URL": "/home/data/data/1/COCO",
        "DATA_PATH_PREFIX": "/home/data",
    }
    assert {name: found[name] for name in expected} == expected
    for absent in ("AGG_DATA_PATH", "LC_SERVER", "ACCESS_KEY_ID", "S3_ENDPOINT_URL", "AGG_IP"):
        assert absent not in found


def test_the_transmitters_s3_is_told_with_its_keys_by_name_only(sedna, seen, planned, setting):
    sedna.spec["transmitter"] = S3
    sedna.secrets["mysecret"] = SECRET
    found = seen(sedna, transmitter_endpoint="https://minio:9000").env
    assert found["TRANSMITTER"] == "s3"
    assert found["AGG_DATA_PATH"] == "s3://bucket/fl"
    assert found["S3_ENDPOINT_URL"] == "https://minio:9000"
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        assert found[name] == {"secretKeyRef": {"name": "mysecret", "key": name}}
    plan = planned(sedna)
    for text in (json.dumps(compile_plan(plan, setting)), plan.to_json().decode()):
        assert "AKIDPLAIN" not in text
        assert "very-secret" not in text


def test_an_edge_is_told_the_address_that_it_sees(sedna, seen):
    sedna.spec["transmitter"] = S3
    sedna.secrets["mysecret"] = SECRET
    more = {"transmitter_endpoint": "http://in:1", "transmitter_edge_endpoint": "http://out:2"}
    assert seen(sedna, **more).env["S3_ENDPOINT_URL"] == "http://out:2"


def test_other_jobs_get_no_keys_and_no_models(sedna, seen):
    sedna.spec["transmitter"] = S3
    sedna.secrets["mysecret"] = SECRET
    sedna.spec["rounds"] = 3  # no field of Sedna's
    found = seen(sedna)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "MODEL_URL", "TRANSMITTER", "AGG_DATA_PATH"):
        assert name not in found.env
    assert set(found.volumes) == {
        "fedloom-work", "fedloom-tmp", "fedloom-plan", "fedloom-edge", "fedloom-data"
    }  # fmt: skip


def test_the_systems_value_wins_over_the_templates(sedna, seen):
    field = {"fieldRef": {"fieldPath": "metadata.name"}}
    sedna.container()["env"] = [
        {"name": "JOB_NAME", "value": "mine"},
        {"name": "WORKER_NAME", "valueFrom": field},
        {"name": "TRANSMITTER", "valueFrom": field},
        {"name": "MODEL_URL", "value": "/elsewhere"},
        {"name": "OWN", "valueFrom": field},
    ]
    found = seen(sedna).env
    assert found["JOB_NAME"] == "yolo"
    assert found["WORKER_NAME"] == "trainworker-coco-1"
    assert found["TRANSMITTER"] == "ws"
    assert found["MODEL_URL"] == "/home/data/model/yolo.pth"
    assert found["OWN"] == field


def test_a_local_controller_is_found_at_the_nodes_own_address(sedna, seen):
    found = seen(sedna, has_local_controller=True).env
    assert found["LC_SERVER"] == "http://$(FEDLOOM_NODE_ADDRESS):9100"
    assert found["FEDLOOM_NODE_ADDRESS"] == {"fieldRef": {"fieldPath": "status.hostIP"}}


def test_the_parent_of_each_path_is_mounted_with_the_rights_that_it_needs(sedna, seen):
    found = seen(with_pretrained(sedna, "/pretrained/yolo.pth"))
    assert found.path("/home/data/data/1") == {"path": "/data/1"}
    assert found.path("/home/data/model") == {"path": "/model", "type": "DirectoryOrCreate"}
    assert "readOnly" not in found.mounts["/home/data/model"]
    assert found.path("/home/data/pretrained") == {"path": "/pretrained"}
    assert found.mounts["/home/data/pretrained"]["readOnly"] is True


@pytest.mark.parametrize("url", ["/model", "/model/", "//model"])
def test_the_root_of_a_node_is_never_mounted(sedna, seen, url):
    """A hostPath without a type takes a folder and a file alike: which of them it is, only the node knows."""
    sedna.models["out"]["spec"]["url"] = url
    sedna.datasets["coco-1"]["spec"]["url"] = "/weights.bin"
    found = seen(sedna)
    assert found.path("/home/data/model") == {"path": "/model"}
    assert found.path("/home/data/weights.bin") == {"path": "/weights.bin"}
    assert found.env["MODEL_URL"] == "/home/data/model"
    assert found.env["TRAIN_DATASET_URL"] == "/home/data/weights.bin"
    assert not any(
        (each.get("hostPath") or {}).get("path") == "/" for each in found.volumes.values()
    )


def test_what_shares_a_folder_is_mounted_once(sedna, seen):
    sedna.models["out"]["spec"]["url"] = "/data/1/model.pth"
    found = seen(with_pretrained(sedna, "/data/1/old.pth"))
    assert found.env["MODEL_URL"] == "/home/data/data/1/model.pth"
    assert found.env["PRETRAINED_MODEL_URL"] == "/home/data/data/1/old.pth"
    assert [path for path in found.mounts if path.startswith("/home/data")] == ["/home/data/data/1"]
    assert "readOnly" not in found.mounts["/home/data/data/1"]
    other = seen(sedna, "client-coco-2")  # whose data lies elsewhere
    assert {path for path in other.mounts if path.startswith("/home")} == {
        "/home/data/data/2", "/home/data/data/1"
    }  # fmt: skip


def test_a_trailing_slash_changes_nothing(sedna, seen):
    sedna.datasets["coco-1"]["spec"]["url"] = "/data/1/COCO/"
    found = seen(sedna)
    assert found.env["TRAIN_DATASET_URL"] == "/home/data/data/1/COCO"
    assert found.path("/home/data/data/1") == {"path": "/data/1"}


def test_a_folder_that_the_template_mounts_itself_is_left_to_it(sedna, seen):
    own = [
        {"name": "mine", "mountPath": "/data"},
        {"name": "models", "mountPath": "/home/data/model"},
    ]
    sedna.container()["volumeMounts"] = own
    sedna.worker()["spec"]["volumes"] = [{"name": "mine", "emptyDir": {}}, {"name": "models"}]
    found = seen(sedna)
    assert found.env["TRAIN_DATASET_URL"] == "/data/1/COCO"
    assert found.env["MODEL_URL"] == "/home/data/model/yolo.pth"
    assert "fedloom-data" not in found.volumes
    assert "fedloom-model" not in found.volumes


@pytest.mark.parametrize("url", ["pvc://claim/x", "obs://b/x", "file:///data/x", "data/x"])
def test_other_schemes_are_told_as_they_are_and_nothing_is_mounted(sedna, seen, url):
    sedna.datasets["coco-1"]["spec"]["url"] = url
    found = seen(sedna)
    assert found.env["TRAIN_DATASET_URL"] == url
    assert "fedloom-data" not in found.volumes


def test_what_is_elsewhere_is_downloaded_first_and_read_only(sedna, seen):
    sedna.datasets["coco-1"]["spec"]["url"] = "https://example.org/sets/coco.zip?version=2"
    sedna = with_pretrained(sedna, "s3://bucket/pre/yolo.pth")
    found = seen(sedna)
    assert found.env["TRAIN_DATASET_URL"] == "/downloads/example.org/sets/coco.zip"
    assert found.env["PRETRAINED_MODEL_URL"] == "/downloads/bucket/pre/yolo.pth"
    mount = found.mounts["/downloads"]
    assert mount["readOnly"] is True
    assert mount["subPath"] == "coco-1/fedloom/downloads"
    assert [each["name"] for each in found.first] == ["fetch", "download"]
    download = found.first[1]
    assert download["command"][-1] == "components.download"
    assert download["image"] == "fedloom/steps:test"
    # On the node between rounds: the same volume as the client's state.
    assert found.volumes[mount["name"]]["hostPath"]["path"].startswith("/var/lib/fedloom/")
    assert [each["name"] for each in seen(sedna, "client-coco-2").first] == ["fetch", "download"]


def test_nothing_is_downloaded_for_a_job_that_has_all_on_its_nodes(sedna, seen):
    assert [each["name"] for each in seen(sedna).first] == ["fetch"]


def test_a_dispatched_worker_sees_the_same(sedna, planned, setting):
    from dataclasses import replace

    from pipelines.engines.argo_dispatch import client_jobs, dispatch_orders

    sedna.datasets["coco-1"]["spec"]["url"] = "https://example.org/coco.csv"
    plan = planned(sedna)
    orders = dispatch_orders(plan, replace(setting, dispatched=frozenset(plan.cohort)))
    jobs = [job for each in orders.values() for job in client_jobs(each, "w", "u")]
    pods = {
        job["spec"]["template"]["metadata"]["labels"]["fedloom.io/client"]: job["spec"]["template"][
            "spec"
        ]
        for job in jobs
        if "fedloom.io/client" in job["spec"]["template"]["metadata"]["labels"]
    }
    first = [each["name"] for each in pods["coco-1"]["initContainers"]]
    assert first == ["fetch", "download", "train"]
    train = pods["coco-2"]["initContainers"][-1]
    mounts = {each["mountPath"] for each in train["volumeMounts"]}
    assert {"/home/data/data/2", "/home/data/model"} <= mounts
    assert {"name": "MODEL_URL", "value": "/home/data/model/yolo.pth"} in train["env"]
    assert "hostNetwork" not in pods["coco-1"]


def test_the_aggregation_worker_is_told_what_sednas_was(sedna, seen):
    found = seen(sedna, "describe", number=0)
    assert found.env["WORKER_NAME"] == "aggworker-yolo"
    assert found.env["MODEL_URL"] == "/home/data/model/yolo.pth"
    assert found.env["TRANSMITTER"] == "ws"
    assert found.path("/home/data/model") == {"path": "/model", "type": "DirectoryOrCreate"}
    assert "DATASET_NAME" not in found.env


def test_our_own_step_sees_a_pretrained_model_of_its_node(sedna, planned, setting):
    from pipelines.engines.argo_groups import groups_of
    from pipelines.engines.argo_pods import pod_of

    plan = planned(with_pretrained(sedna, "/pretrained/first.safetensors"), 0)
    pod = pod_of(groups_of(plan)["server"], plan, setting)
    mount = {"name": "fedloom-pretrained", "mountPath": "/home/data/pretrained", "readOnly": True}
    assert any(mount in each["volumeMounts"] for each in pod.steps)
    volume = {"name": "fedloom-pretrained", "hostPath": {"path": "/pretrained"}}
    assert volume in pod.volumes


def test_the_rest_of_a_template_is_kept(sedna, seen, planned, setting):
    from pipelines.engines.argo_groups import groups_of
    from pipelines.engines.argo_pods import pod_of

    template = sedna.worker()
    template["metadata"] = {"labels": {"team": "vision"}, "annotations": {"note": "mine"}}
    template["spec"] |= {
        "priorityClassName": "low",
        "securityContext": {"runAsUser": 7},
        "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
        "initContainers": [{"name": "warm", "image": "busybox:1"}],
        "terminationGracePeriodSeconds": 9,
    }
    sedna.container() | {"resources": {"limits": {"memory": "2Gi"}}}
    sedna.container()["resources"] = {"limits": {"memory": "2Gi"}}
    plan = planned(sedna)
    pod = pod_of(groups_of(plan)["client-coco-1"], plan, setting)
    assert pod.labels["team"] == "vision"
    assert pod.labels["federatedlearningjob.sedna.io/name"] == "yolo"
    assert pod.annotations["note"] == "mine"
    assert pod.spec["priorityClassName"] == "low"
    assert pod.spec["securityContext"] == {"runAsUser": 7}
    assert pod.spec["dnsConfig"]["options"][0]["name"] == "ndots"
    assert pod.spec["terminationGracePeriodSeconds"] == 9
    assert not pod.spec.keys() & {"hostNetwork", "dnsPolicy"}  # so the cluster's DNS is asked
    assert "warm" in [each["name"] for each in pod.first]
    assert seen(sedna).container["resources"] == {"limits": {"memory": "2Gi"}}
