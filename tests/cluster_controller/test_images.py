"""Images that run in the place of those that a job names."""

from __future__ import annotations

import json

import pytest

from controller.cluster.settings import read_settings
from controller.images import Substitute, read_images, with_images
from fedloom.api.job import FederatedLearningJob
from fedloom.api.reading import read_job
from fedloom.errors import InvalidJobError

OURS = {"image": "fedloom/x:1", "command": ["python", "/app/train.py"]}
SETTINGS = {
    "FEDLOOM_STEPS_IMAGE": "fedloom/steps:1",
    "FEDLOOM_STORE": "s3://bucket/jobs",
    "FEDLOOM_STORE_ENDPOINT": "http://minio:9000",
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "key",
}


def template(image: str, **container) -> dict:
    given = {"name": "w", "image": image, "args": ["-i", "1"], **container}
    return {"spec": {"nodeName": "edge-1", "containers": [given]}}


def job(image: str, **container) -> FederatedLearningJob:
    worker = {"dataset": {"name": "d"}, "template": template(image, **container)}
    spec = {
        "aggregationWorker": {"model": {"name": "m"}, "template": template(image, **container)},
        "trainingWorkers": [worker],
        "evaluation": {"dataset": {"name": "d"}, "template": template(image, **container)},
    }
    return read_job(
        {
            "apiVersion": "sedna.io/v1alpha1",
            "kind": "FederatedLearningJob",
            "metadata": {"name": "j", "namespace": "ns"},
            "spec": spec,
        }
    )


def templates(changed: FederatedLearningJob) -> list:
    spec = changed.spec
    return [
        spec.aggregation_worker.template,
        spec.training_workers[0].template,
        spec.evaluation.template,
    ]


@pytest.mark.parametrize(
    "image",
    [
        "kubeedge/a:v0.4.0",
        "kubeedge/a",
        "kubeedge/a@sha256:00",
        "kubeedge/a:v1@sha256:00",
    ],
)
def test_a_name_without_a_tag_stands_for_all_its_tags(image):
    images = read_images(json.dumps({"kubeedge/a": OURS}))
    for each in templates(with_images(job(image), images)):
        assert each.image == "fedloom/x:1"
        assert each.command == ("python", "/app/train.py")
        assert each.args == ("-i", "1")
        assert each.node_name == "edge-1"


def test_a_name_with_its_tag_goes_before_the_name_alone():
    images = read_images(json.dumps({"a": OURS, "a:2": {"image": "b:2"}}))
    assert with_images(job("a:2"), images).spec.training_workers[0].template.image == "b:2"
    assert with_images(job("a:1"), images).spec.training_workers[0].template.image == "fedloom/x:1"


@pytest.mark.parametrize("image", ["host:5000/a", "b", "kubeedge/a-b:1", "x/kubeedge/a:1"])
def test_any_other_image_stays(image):
    given = job(image)
    images = read_images(json.dumps({"kubeedge/a": OURS, "host": OURS}))
    assert with_images(given, images) == given


def test_a_port_is_no_tag():
    images = read_images(json.dumps({"host:5000/a": OURS}))
    changed = with_images(job("host:5000/a:3"), images)
    assert changed.spec.training_workers[0].template.image == "fedloom/x:1"


def test_a_template_keeps_its_own_command():
    images = read_images(json.dumps({"a": OURS}))
    changed = with_images(job("a:1", command=["run"]), images)
    assert changed.spec.training_workers[0].template.command == ("run",)


def test_a_command_alone_leaves_the_image():
    images = read_images(json.dumps({"a": {"command": ["run"]}}))
    changed = with_images(job("a:1"), images).spec.training_workers[0].template
    assert (changed.image, changed.command) == ("a:1", ("run",))


def test_nothing_is_no_substitute():
    assert read_images("") == {}
    assert read_settings(SETTINGS).images == {}
    given = SETTINGS | {"FEDLOOM_IMAGES": json.dumps({"a": OURS})}
    assert read_settings(given).images == {
        "a": Substitute("fedloom/x:1", ("python", "/app/train.py"))
    }


@pytest.mark.parametrize(
    "text",
    [
        "a=b",
        "[]",
        '"a"',
        '{"a": "b"}',
        '{"a": {}}',
        '{"a": {"image": 1}}',
        '{"a": {"image": "b", "command": "run"}}',
        '{"a": {"image": "b", "command": [1]}}',
        '{"a": {"image": "b", "tag": "c"}}',
        '{"a": {"image": ""}}',
    ],
)
def test_a_setting_that_is_none_is_refused_at_its_variable(text):
    with pytest.raises(InvalidJobError, match=r"FEDLOOM_IMAGES: .*expected \{"):
        read_settings(SETTINGS | {"FEDLOOM_IMAGES": text})
