"""Edges that vanish: the round closes at its deadline without them, and they come back."""

from __future__ import annotations

import json
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


@pytest.fixture
def without_api_server(cluster_tool):
    """Cut a node's pods, not its kubelet, off from the API server: what stock KubeEdge is like."""
    cut = []

    def inside(node: str, *command: str) -> None:
        pids = subprocess.run(
            ["pgrep", "-f", f"^kubelet --config=[^ ]*/{node}/"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        subprocess.run(["nsenter", "-t", pids[0], "-n", *command], check=True, capture_output=True)

    def cut_off(node: str) -> None:
        inside(node, "nft", "add", "table", "inet", "no-api")
        chain = "{ type filter hook forward priority -300 ; }"
        inside(node, "nft", "add", "chain", "inet", "no-api", "forward", chain)
        rule = ("tcp", "dport", "{ 443, 6443 }", "drop")
        inside(node, "nft", "add", "rule", "inet", "no-api", "forward", *rule)
        cut.append(node)

    yield cut_off
    for node in cut:
        inside(node, "nft", "delete", "table", "inet", "no-api")


def test_edges_that_reach_no_api_server_are_served_by_plain_jobs(bench, without_api_server):
    for node in ("edge-1", "edge-2", "edge-3"):
        without_api_server(node)
    bench.spec["edge"] = {"runtime": "dispatch"}
    bench.spec["rounds"] = 1
    bench.submit()
    bench.wait_for("Complete")
    assert [client["state"] for client in bench.status()["clients"]] == ["Succeeded"] * 3
    pods = bench.kubectl.get("pods", "-l", "fedloom.io/client")["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"edge-1", "edge-2", "edge-3"}
    assert not any(pod["spec"].get("automountServiceAccountToken", True) for pod in pods)
    assert "AWS_SECRET_ACCESS_KEY" not in json.dumps([pod["spec"] for pod in pods])
