"""What is written for the cluster and for people agrees with what the code does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from controller.cluster.edges.authority import CERTIFICATE, NAME
from controller.cluster.edges.enrolment import AUDIENCE
from controller.cluster.settings import read_settings as read_cloud_settings
from controller.edge import settings as edge_settings

ROOT = Path(__file__).resolve().parents[3]
OVERLAY = ROOT / "manifests/overlays/kubeedge"
VARIABLES = re.findall(r"^(FEDLOOM_LC_\w+)", edge_settings.__doc__, re.M)
CLOUD = {
    "FEDLOOM_LOCAL_CONTROLLER": "true",
    "FEDLOOM_STEPS_IMAGE": "x",
}


@pytest.fixture(scope="module")
def documents():
    text = (OVERLAY / "local-controller.yaml").read_text()
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text)}


@pytest.fixture(scope="module")
def pod(documents):
    return documents["DaemonSet", "fedloom-local-controller"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_has_a_row(name):
    assert f"`{name}`" in (ROOT / "docs/operations.md").read_text()


def test_the_daemon_sets_variables_are_ones_that_are_read(documents, pod):
    given = {each["name"]: each.get("value", "") for each in pod["containers"][0]["env"]}
    given |= documents["ConfigMap", "fedloom-local-controller"]["data"]
    assert {name for name in given if name.startswith("FEDLOOM_")} <= set(VARIABLES)
    given["FEDLOOM_LC_NODE"] = "edge-1"
    given = {key: value.replace("$(HOST_IP)", "192.0.2.7") for key, value in given.items()}
    settings = edge_settings.read_settings(given)
    assert settings.worker_listen == (("192.0.2.7", 9100), ("127.0.0.1", 9100))
    mounts = {each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert mounts >= {str(settings.state), *settings.data, str(settings.token.parent)}
    assert str(settings.authority.parent) in mounts
    assert settings.authority.name == CERTIFICATE


def test_names_ports_and_rights_are_those_of_the_code(documents, pod):
    link = read_cloud_settings(CLOUD).link
    service = documents["Service", "fedloom-edge-link"]["spec"]["ports"][0]
    assert service["targetPort"] == link.listen[1]
    data = documents["ConfigMap", "fedloom-local-controller"]["data"]
    assert data["FEDLOOM_LC_CLOUD"].endswith(f":{service['nodePort']}")
    account = documents["ServiceAccount", link.account]
    assert account["metadata"]["namespace"] == link.namespace
    assert pod["serviceAccountName"] == link.account
    tokens = [each["projected"] for each in pod["volumes"] if "projected" in each]
    assert tokens[0]["sources"][0]["serviceAccountToken"]["audience"] == AUDIENCE
    maps = [each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each]
    assert maps == [NAME]
    bound = [each for kind, each in documents.items() if kind[0].endswith("Binding")]
    assert {each["subjects"][0]["name"] for each in bound} == {"fedloom-controller"}


def test_the_local_controller_itself_is_allowed_nothing(pod):
    container = pod["containers"][0]["securityContext"]
    assert container["runAsNonRoot"]
    assert container["readOnlyRootFilesystem"]
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert not pod["automountServiceAccountToken"]
    data = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "data"]
    assert all(each["readOnly"] for each in data)
    folders = [each["hostPath"]["path"] for each in pod["volumes"] if "hostPath" in each]
    assert "/" not in folders


def test_the_overlay_names_its_files():
    listed = yaml.safe_load((OVERLAY / "kustomization.yaml").read_text())
    assert "local-controller.yaml" in listed["resources"]
    settings = yaml.safe_load((OVERLAY / "settings.yaml").read_text())
    assert settings["data"]["FEDLOOM_LOCAL_CONTROLLER"] == "true"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_overlay_renders():
    command = ["kubectl", "kustomize", str(OVERLAY)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    kinds = {(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(found.stdout)}
    assert ("DaemonSet", "fedloom-local-controller") in kinds
    assert ("Deployment", "fedloom-controller") in kinds
