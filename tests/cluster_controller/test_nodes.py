"""Which node can run a client, now."""

from __future__ import annotations

import math

import pytest

from controller.cluster.nodes import (
    is_ready,
    kept_of_node,
    lost_seconds,
    runtime_of,
    unready_clients,
)
from pipelines.plan import Placement

ON_1 = Placement("edge", "edge-1")
IN_NORTH = Placement("edge", None, {"zone": "north"})
ANYWHERE = Placement("edge")


def test_a_client_is_ready_where_its_node_is(make_node):
    placements = {"a": ON_1, "b": Placement("edge", "edge-2"), "c": IN_NORTH, "d": ANYWHERE}
    nodes = [make_node("edge-1", zone="north"), make_node("edge-2", "Unknown")]
    assert unready_clients(placements, nodes) == {"b"}
    assert unready_clients(placements, [make_node("edge-1", "False", zone="north")]) == set("abcd")


def test_a_node_without_a_condition_or_cordoned_takes_no_work(make_node):
    node = make_node("edge-1")
    assert is_ready(node)
    assert not is_ready({**node, "spec": {"unschedulable": True}})
    assert not is_ready({**node, "status": {}})


def test_a_node_is_lost_since_its_condition_changed(make_node):
    now = 1767225660.0  # 2026-01-01T00:01:00Z
    assert lost_seconds(make_node("n"), now) == 0
    assert lost_seconds(make_node("n", "Unknown"), now) == 60
    assert lost_seconds(make_node("n", "Unknown", "rubbish"), now) == 0
    assert math.isinf(lost_seconds(None, now))


@pytest.mark.parametrize(
    ("wanted", "labels", "expected"),
    [
        ("auto", {}, "direct"),
        ("auto", {"fedloom.io/runtime": "dispatch"}, "dispatch"),
        (
            "auto",
            {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": ""},
            "dispatch",
        ),
        ("auto", {"node-role.kubernetes.io/edge": ""}, "direct"),
        (
            "auto",
            {
                "node-role.kubernetes.io/edge": "",
                "node-role.kubernetes.io/agent": "",
                "fedloom.io/runtime": "direct",
            },
            "direct",
        ),
        ("direct", {"fedloom.io/runtime": "dispatch"}, "direct"),
        ("dispatch", {}, "dispatch"),
    ],
)
def test_the_job_chooses_the_runtime_else_the_node_does(make_node, wanted, labels, expected):
    assert runtime_of(wanted, ON_1, [make_node("edge-1", **labels)]) == expected


def test_what_is_kept_of_a_node_says_the_same(make_node):
    node = make_node("edge-1", "Unknown", zone="north")
    node["status"]["images"] = ["x"] * 100
    kept = kept_of_node(node)
    assert "images" not in kept["status"]
    assert is_ready(kept) == is_ready(node)
    assert lost_seconds(kept, 1767225660.0) == lost_seconds(node, 1767225660.0)
