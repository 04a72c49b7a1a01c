"""Edges that vanish: the round closes at its deadline without them, and they come back."""

from __future__ import annotations

import subprocess

import pytest


@pytest.fixture
def cable(cluster_tool):
    """Pull an edge's cable; in again when the test is over."""
    pulled = []

    def pull(node: str) -> None:
        subprocess.run([cluster_tool, "edge", "offline", node], check=True, capture_output=True)
        pulled.append(node)

    yield pull
    for node in pulled:
        subprocess.run([cluster_tool, "edge", "online", node], check=True, capture_output=True)


def test_an_edge_that_goes_offline_while_it_trains_does_not_block_the_round(bench, cable):
    slow = ["sh", "-c", "sleep 20; exec python train.py"]
    bench.template(2)["command"] = slow
    bench.spec["participation"] |= {"minClients": 2, "deadlineSeconds": 45}
    bench.spec["rounds"] = 1
    bench.submit()
    bench.kubectl.until(
        lambda: (
            "Running"
            in bench.kubectl(
                "get",
                "pods",
                "-l",
                "fedloom.io/client=digits-3",
                "-o",
                "jsonpath={.items[*].status.phase}",
            )
        ),
        why="the training of digits-3",
    )
    cable("edge-3")
    bench.wait_for("Complete", seconds=240)
    client = bench.client("digits-3")
    assert client["state"] == "Failed"
    assert client["reason"]
