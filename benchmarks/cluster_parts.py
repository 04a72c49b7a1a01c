"""Where the time of a round goes: consecutive parts, which add up to its wall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from cluster_watch import Seen

TRAINING, CONTROLLER = "training", "controller: next workflow"
MEANINGS = {
    "argo: client pods": "from the workflow to the last client's pod",
    "pods start": "sandbox, Argo's init container, start of Python, until fetch is at work",
    "fetch": "model and state onto the node",
    "container to container": "start of the user's container; Argo's wait between two; our imports",
    TRAINING: "the user's script",
    "compress, upload": "until update and report are in the store",
    "argo: server pod": "Argo notices that clients ended, and makes the next pod",
    "server starts": "sandbox, Argo's init container, start of Python",
    "aggregate": "until the new model is in the store",
    "evaluation": "the user's script on the test data",
    "server, between containers": "Argo's wait between two containers; starts of Python",
    "commit": "until result.json is written",
    CONTROLLER: "from there to the next round's workflow",
}


def round_parts(seen: Seen, result: Mapping[str, Any], names: tuple[str, str]) -> dict[str, float]:
    """Cut one round of a direct job into its parts, along the client that was last; seconds.

    `names` are the round's workflow and the next one. Pods' clocks and this machine's are taken for
    the same.
    """
    begin, end = (seen.workflows[name][""] for name in names)
    pods = seen.pods_of[names[0]]
    made = [seen.pods[name][""] for name in pods]
    good = [client for client in result["clients"].values() if client["steps"]]
    last = max(good, key=lambda client: client["steps"]["compress"][1])
    steps, user = last["steps"], last["metrics"]
    server, metrics = result["server"]["steps"], result["metrics"]
    clients_made, server_made = max(made[:-1]), made[-1]
    fetch, compress = steps["fetch"], steps["compress"]
    aggregate, commit = server["aggregate"], server["evaluate"][1]
    return {
        "argo: client pods": clients_made - begin,
        "pods start": fetch[0] - clients_made,
        "fetch": fetch[1] - fetch[0],
        "container to container": user["began"] - fetch[1] + compress[0] - user["ended"],
        TRAINING: user["ended"] - user["began"],
        "compress, upload": compress[1] - compress[0],
        "argo: server pod": server_made - compress[1],
        "server starts": aggregate[0] - server_made,
        "aggregate": aggregate[1] - aggregate[0],
        "evaluation": metrics["ended"] - metrics["began"],
        "server, between containers": metrics["began"] - aggregate[1] + commit - metrics["ended"],
        "commit": result["finished"] - commit,
        CONTROLLER: end - result["finished"],
    }


def training_seconds(result: Mapping[str, Any]) -> float:
    """Give how long the user's script trained on the client that was last."""
    good = [client for client in result["clients"].values() if client["steps"]]
    last = max(good, key=lambda client: client["steps"]["compress"][1])
    seconds: float = last["metrics"]["ended"] - last["metrics"]["began"]
    return seconds


def medians(rounds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    rounds = list(rounds)
    return {name: median(each[name] for each in rounds) for name in rounds[0]}
