"""The link as a whole: downstream, upstream, a cut cable, a node that is killed, a cloud that begins anew."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from controller.cluster.resources import DATASETS, JOBS, MODELS


def held(edge) -> int:
    return (edge.health() or {}).get("held", 0)


def rounds(cloud) -> list[int]:
    """Rounds of reports as they took effect, in order."""
    return [
        what[0]
        for _, place, _, what in cloud.messages
        if "/datasets/" not in place and what[1]["applied"]
    ]


def test_a_job_reaches_the_nodes_of_its_clients_and_no_other(cloud, edge, wait):
    cloud.node("edge-3")
    one, three = edge("edge-1"), edge("edge-3")
    for each in (one, three):
        each.start()
    wait(lambda: held(one) == 2)
    stored = one.running._storage
    assert set(stored.held()) == {"federatedlearningjobs/ns/toy", "datasets/ns/a"}
    job = stored.get("federatedlearningjobs", "ns", "toy")
    assert job["spec"]["trainingWorkers"][0]["dataset"] == {"name": "a"}
    assert job["metadata"]["annotations"] == {"fedloom.io/workers": '["trainworker-a"]'}
    assert "status" not in job
    assert held(three) == 0


def test_an_edit_and_a_deletion_reach_the_node(cloud, edge, wait):
    one = edge()
    one.start()
    wait(lambda: held(one) == 2)
    stored = one.running._storage

    def job():
        return stored.get("federatedlearningjobs", "ns", "toy")

    cloud.cluster.patch(JOBS, "ns", "toy", {"spec": {"rounds": 9}})
    wait(lambda: job()["spec"]["rounds"] == 9)
    cloud.cluster.delete(JOBS, None, "x")
    cloud.cluster.delete(JOBS, "ns", "toy")
    wait(lambda: job() is None)
    assert stored.get("datasets", "ns", "a") is not None


def test_clients_with_a_node_selector_are_found_by_labels(cloud, edge, wait):
    cloud.node("edge-3", zone="north")
    template = {
        "spec": {
            "nodeSelector": {"zone": "north"},
            "containers": [{"name": "train", "image": "busybox:1"}],
        }
    }
    worker = {"dataset": {"name": "a"}, "template": template}
    cloud.job("picky", trainingWorkers=[worker])
    three = edge("edge-3")
    three.start()
    wait(lambda: held(three) == 1)
    assert three.running._storage.get("federatedlearningjobs", "ns", "picky")


def test_a_report_becomes_status_metrics_and_a_condition(cloud, edge, wait):
    one = edge()
    one.start()
    wait(lambda: held(one) == 2)
    results = [
        {"format": "ckpt", "url": "/model", "metrics": {"accuracy": 0.91, "classes": [1, 2]}}
    ]
    code, answer = one.report("trainworker-a", 1, results=results)
    assert (code, answer) == (200, {"Status": 200, "Message": "OK"})
    found = wait(lambda: cloud.condition("Training"))
    assert (found["status"], found["reason"]) == ("True", "DoTraining")
    assert found["message"] == "Round 1 reaches at 2026-01-01 00:00:01"
    client = cloud.status()["clients"][0]
    assert (client["name"], client["samples"]) == ("a", 120)
    assert client["metrics"] == {"accuracy": "0.91", "classes": "[1, 2]"}
    entries = wait(lambda: cloud.cluster.get(MODELS, "ns", "m").get("status", {}).get("metrics"))
    assert entries == [{"key": "accuracy", "value": "0.91"}, {"key": "classes", "value": "[1, 2]"}]


def test_there_is_one_training_condition_whatever_is_reported(cloud, edge, wait):
    one, two = edge("edge-1"), edge("edge-2")
    for each in (one, two):
        each.start()
    wait(lambda: held(one) == held(two) == 2)
    for number in (1, 2, 3):
        one.report("trainworker-a", number)
        two.report("trainworker-b", number)
    wait(lambda: len(rounds(cloud)) == 6)
    kinds = [each["type"] for each in cloud.status()["conditions"]]
    assert kinds.count("Training") == 1
    assert cloud.condition("Training")["message"].startswith("Round 3 ")


def test_a_dataset_is_counted_where_it_lies_and_again_when_it_changes(cloud, edge, wait):
    one = edge()
    (one.data / "lines.txt").write_text("x 1\ny 2\n\nz 3")
    cloud.dataset("counted", "edge-1", str(one.data / "lines.txt"))
    one.start()

    def samples():
        status = cloud.cluster.get(DATASETS, "ns", "counted").get("status") or {}
        return status.get("numberOfSamples")

    wait(lambda: samples() == 3)
    (one.data / "lines.txt").write_text("x 1\n")
    wait(lambda: samples() == 1)


def test_a_cut_cable_loses_nothing_and_changes_no_order(cloud, cable, edge, wait):
    one = edge(port=cable.port)
    one.start()
    wait(lambda: held(one) == 2)
    assert one.report("trainworker-a", 1)[0] == 200
    wait(lambda: rounds(cloud) == [1])
    cable.cut()
    for number in range(2, 8):
        assert one.report("trainworker-a", number)[0] == 200
    assert one.health()["waiting"] >= 5
    cable.mend()
    wait(lambda: rounds(cloud) == list(range(1, 8)))
    wait(lambda: one.health()["waiting"] == 0)


def kill_twice_with_the_cable_cut(cloud, cable, edge, wait, seconds: float) -> None:
    one = edge(port=cable.port)
    one.launch()
    wait(lambda: held(one) == 2)
    sent = 0

    def report(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            sent += 1
            assert one.report("trainworker-a", sent)[0] == 200

    report(3)
    wait(lambda: rounds(cloud) == [1, 2, 3])
    cable.cut()
    for _ in range(2):
        until = time.monotonic() + seconds / 2
        report(5)
        while time.monotonic() < until:
            time.sleep(0.05)
        one.kill()
        one.launch()
        assert held(one) == 2, "what it held is still there without the cloud"
    report(5)
    cable.mend()
    wait(lambda: len(rounds(cloud)) >= sent, 60)
    wait(lambda: one.health()["waiting"] == 0)
    assert rounds(cloud) == list(range(1, sent + 1))
    sequences = [number for node, _, number, _ in cloud.messages if node == "edge-1"]
    assert sequences == sorted(sequences)
    assert cloud.condition("Training")["message"].startswith(f"Round {sent} ")


def test_killed_twice_with_the_cable_cut_every_message_arrives_in_order_and_once(
    cloud, cable, edge, wait
):
    kill_twice_with_the_cable_cut(cloud, cable, edge, wait, seconds=1.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_same_with_the_cable_cut_for_two_minutes(cloud, cable, edge, wait):
    kill_twice_with_the_cable_cut(cloud, cable, edge, wait, seconds=120.0)


def test_killed_while_workers_post_what_was_answered_is_kept(cloud, edge, wait):
    one = edge()
    one.launch()
    wait(lambda: held(one) == 2)
    answered: list[int] = []

    def work() -> None:
        for number in range(1, 60):
            while True:
                try:
                    code, _ = one.report("trainworker-a", number)
                    break
                except OSError:
                    time.sleep(0.02)
            assert code == 200
            answered.append(number)

    worker = threading.Thread(target=work)
    worker.start()
    for _ in range(2):
        time.sleep(0.2)
        one.kill()
        one.launch()
    worker.join(60)
    assert answered == list(range(1, 60))
    wait(lambda: len(set(rounds(cloud))) == 59)
    found = [what for _, place, _, what in cloud.messages if "/datasets/" not in place]
    assert [number for number, _ in found] == sorted(number for number, _ in found)


def test_a_frozen_cable_and_an_answer_that_never_came_have_no_second_effect(
    cloud, cable, edge, wait
):
    one = edge(port=cable.port)
    one.start()
    wait(lambda: held(one) == 2)
    cable.is_frozen = True
    one.report("trainworker-a", 1)
    time.sleep(0.3)
    cable.cut()
    cable.mend()
    one.report("trainworker-a", 2)
    wait(lambda: rounds(cloud)[-1:] == [2])
    assert rounds(cloud) == [1, 2]


def test_a_cloud_that_begins_anew_goes_on_with_nodes_as_they_are(cloud, edge, wait):
    port = cloud.port
    one = edge()
    one.start()
    wait(lambda: held(one) == 2)
    one.report("trainworker-a", 1)
    wait(lambda: rounds(cloud) == [1])
    cloud.stop()
    one.report("trainworker-a", 2)
    cloud.job("other", ("a",))
    cloud.cluster.delete(JOBS, "ns", "nothing")
    cloud.start(port)
    wait(lambda: rounds(cloud) == [1, 2])
    wait(lambda: held(one) == 3)
    assert cloud.condition("Training")["message"].startswith("Round 2 ")


def test_a_cloud_that_begins_anew_is_told_what_was_counted(cloud, edge, wait):
    port = cloud.port
    one = edge()
    (one.data / "lines.txt").write_text("1\n2\n3\n")
    cloud.dataset("counted", "edge-1", str(one.data / "lines.txt"))
    one.start()
    wait(lambda: any("/datasets/" in place for _, place, _, _ in cloud.messages))
    cloud.stop()
    before = len(cloud.messages)
    cloud.start(port)
    wait(lambda: any("/datasets/" in place for _, place, _, _ in cloud.messages[before:]))
    assert cloud.controller.reconciler._around.reports.is_counted(("ns", "counted"))


def test_what_our_library_posts_from_a_workers_script_arrives(cloud, edge, wait):
    one = edge()
    one.start()
    wait(lambda: held(one) == 2)
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "compat"),
        "LC_SERVER": f"http://127.0.0.1:{one.worker_port}",
        "WORKER_NAME": "trainworker-a",
        "NAMESPACE": "ns",
        "JOB_NAME": "toy",
    }
    script = (
        "from sedna.round.reports import send, task_info\n"
        "send(task_info(3, 77, 0.0), 'running', [{'format': 'x', 'metrics': {'loss': 0.5}}])\n"
    )
    subprocess.run([sys.executable, "-c", script], env=environ, check=True, timeout=60)
    wait(lambda: cloud.condition("Training"))
    client = cloud.status()["clients"][0]
    assert (client["samples"], client["metrics"]) == (77, {"loss": "0.5"})
    assert cloud.condition("Training")["message"].startswith("Round 3 ")
