"""What an attempt looks like, from its Workflow and its pods, and the tree that is drawn of it."""

from __future__ import annotations

import time

from cli.cluster.picture import Picture
from cli.cluster.tree import Row, rows_of
from controller.cluster.nodes import seconds_of
from controller.cluster.pods import kept_of_pod
from controller.cluster.workflows import kept_of_workflow

NOW = seconds_of("2026-01-01T00:00:20Z")


def picture(job, workflows, pods=()):
    return Picture(job, [*map(kept_of_workflow, workflows)], [*map(kept_of_pod, pods)], ("a", "b"))


def argo_node(name, client=None, phase="Succeeded", **more):
    inputs = {"parameters": [{"name": "client", "value": client}]} if client else {}
    return {
        "id": f"w-{name}",
        "name": f"digits-8c2f1a77-r1-a1.{name}",
        "displayName": name,
        "templateName": "t",
        "type": "Pod",
        "phase": phase,
        "inputs": inputs,
        "startedAt": "2026-01-01T00:00:01Z",
        "finishedAt": "2026-01-01T00:00:09Z",
    } | more


def steps(worker):
    return [(step.name, step.state) for step in worker.steps]


def test_containers_that_only_wait_for_the_one_before_them_do_not_run(make):
    states = {"init": make.ended(1, 1), "fetch": make.ended(1, 3), "wait": make.running(3)}
    states |= {"train": make.running(4), "compress": make.running(4)}
    found = picture(make.job(), [make.workflow(1)], [make.pod("a", states)]).newest(now=NOW)
    (worker,) = found.workers
    assert steps(worker) == [("fetch", "Succeeded"), ("train", "Running"), ("compress", "Pending")]
    assert [step.seconds for step in worker.steps] == [2.0, 16.0, None]
    assert (worker.status.state, worker.status.node, worker.status.seconds) == (
        "Running",
        "edge-a",
        19,
    )


def test_a_step_counts_from_the_end_of_the_one_before(make):
    states = {"fetch": make.ended(1, 3), "train": make.ended(4, 9), "compress": make.ended(4, 11)}
    found = picture(make.job(), [make.workflow(1)], [make.pod("a", states, phase="Succeeded")])
    assert [step.seconds for step in found.newest(now=NOW).workers[0].steps] == [2.0, 5.0, 2.0]


def test_clients_whose_pods_are_gone_are_known_from_the_workflow(make):
    nodes = {"w-a": argo_node("client-a", "a", hostNodeName="edge-a", id="w-a")}
    found = picture(make.job(), [make.workflow(1, phase="Succeeded", **nodes)]).newest(now=NOW)
    (worker,) = found.workers
    assert (worker.name, worker.status.state, worker.status.seconds) == ("a", "Succeeded", 8.0)
    assert found.seconds == 12.0


def test_the_newest_attempt_is_shown_clients_first(make):
    pods = [
        make.pod("server", {"aggregate": make.running(4)}),
        make.pod("b", {"train": make.running(4)}),
    ]
    found = picture(make.job(), [make.workflow(1), make.workflow(0), make.workflow(1, 2)], pods)
    assert (found.newest(now=NOW).round, found.newest(now=NOW).attempt) == (1, 2)
    assert found.newest(0).round == 0
    assert found.newest(7) is None
    first = picture(make.job(), [make.workflow(1)], pods).newest(now=NOW)
    assert [(w.name, w.is_client) for w in first.workers] == [("b", True), ("server", False)]


def test_a_workflow_whose_nodes_argo_keeps_elsewhere_shows_no_clients(make):
    workflow = kept_of_workflow(make.workflow(1))
    workflow["status"]["offloadNodeStatusVersion"] = "v1"
    assert Picture(make.job(), [workflow]).newest(now=NOW).workers == ()


def test_the_tree_shows_job_rounds_and_steps_with_the_reason_of_a_failure(make):
    failed = {"train": make.ended(1, 5, 3, "Traceback\nValueError: bad rate")}
    pods = [make.pod("a", {"train": make.running(4)}, 2), make.pod("b", failed, 2, phase="Failed")]
    shown = picture(make.job(status=make.status(1)), [make.workflow(2)], pods)
    rows = rows_of(shown, [Row("round 1 ✔", "Succeeded")], NOW)
    assert [row.label.split()[0] for row in rows] == ["team/digits", "├─", "└─", "├─", "└─"]
    assert rows[0].note == "accuracy 0.1  RoundRunning"
    a, b = rows[3:]
    assert (a.node, a.loss, a.up, a.note) == ("edge-a", "0.5", "10 B", "train ● 16s")
    assert b.note.startswith("ScriptFailed")
    assert b.note.endswith("ValueError: bad rate")


def test_a_tree_of_many_clients_fits_the_screen_and_keeps_what_failed(make):
    pods = [make.pod(f"c{n:03}", {"train": make.running(4)}, 2) for n in range(100)]
    pods[70] = make.pod("c070", {"train": make.ended(1, 2, 1)}, 2, phase="Failed")
    shown = picture(make.job(status=make.status(1)), [make.workflow(2)], pods)
    rows = rows_of(shown, [Row(f"round {n}", "Succeeded") for n in range(50)], NOW, height=24)
    assert len(rows) <= 24
    assert any("c070" in row.label for row in rows)
    assert "more" in rows[-1].label
    assert rows[1].label.endswith("round 48")


def test_drawing_a_hundred_clients_takes_no_time(make):
    pods = [make.pod(f"c{n}", {"train": make.running(4)}, 2) for n in range(100)]
    shown = picture(make.job(status=make.status(1)), [make.workflow(2)], pods)
    began = time.perf_counter()
    rows_of(shown, [], NOW, height=40)
    assert time.perf_counter() - began < 0.5
