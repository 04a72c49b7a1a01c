"""A pod template is kept as written, and what Fedloom reads of it never fails."""

from __future__ import annotations

import copy

import pytest

from fedloom.api.pod import PodTemplate

TEMPLATE = {
    "metadata": {"labels": {"team": "vision"}},
    "spec": {
        "nodeName": "edge-1",
        "nodeSelector": {"zone": "north"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "volumes": [{"name": "data", "hostPath": {"path": "/data"}}],
        "containers": [
            {
                "name": "train",
                "image": "example/train:1",
                "command": ["python", "train.py"],
                "args": ["-i", 1],
                "env": [
                    {"name": "EPOCHS", "value": "3"},
                    {"name": "DEBUG", "value": True},
                    {"name": "LAYERS", "value": 4},
                    {"name": "EMPTY"},
                    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
            },
            {"name": "sidecar", "image": "example/side:1"},
        ],
    },
}


def test_nothing_is_lost():
    before = copy.deepcopy(TEMPLATE)
    template = PodTemplate(TEMPLATE)
    assert template.raw == before
    assert template.container["name"] == "train"


def test_what_is_read_is_the_first_container_s():
    template = PodTemplate(TEMPLATE)
    assert template.image == "example/train:1"
    assert template.command == ("python", "train.py")
    assert template.args == ("-i", "1")
    assert template.node_name == "edge-1"
    assert template.node_selector == {"zone": "north"}
    assert template.tolerations == ({"key": "edge", "operator": "Exists"},)


def test_the_environment_is_the_plain_values_as_text():
    assert PodTemplate(TEMPLATE).environment == {
        "EPOCHS": "3",
        "DEBUG": "true",
        "LAYERS": "4",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"spec": None},
        {"spec": {"containers": None}},
        {"spec": {"containers": [None], "nodeSelector": [], "tolerations": {}}},
        {"spec": {"containers": [{"env": {}, "args": "x", "command": 3, "image": None}]}},
        {"spec": {"containers": [{"env": ["x", {}, None]}], "nodeName": ""}},
    ],
    ids=str,
)
def test_what_is_absent_or_something_else_reads_as_empty(raw):
    template = PodTemplate(raw)
    assert (template.image, template.command, template.args) == ("", (), ())
    assert (template.environment, template.node_name) == ({}, None)
    assert (template.node_selector, template.tolerations) == ({}, ())
