"""The process around the loop: settings, metrics, log lines, and all threads together."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from controller.cluster.exposition import Metrics, serve
from controller.cluster.logs import _Lines
from controller.cluster.main import LEASE, Controller
from controller.cluster.resources import JOBS, LEASES
from controller.cluster.settings import read_settings
from fedloom.errors import InvalidJobError

GIVEN = {
    "FEDLOOM_STORE": "s3://bucket/jobs/",
    "FEDLOOM_STORE_ENDPOINT": "http://minio:9000",
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "a-secret",
    "FEDLOOM_STEPS_IMAGE": "fedloom/steps:1",
}


def eventually(is_so, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_settings_have_defaults_and_show_no_secret():
    settings = read_settings(GIVEN)
    assert settings.store.uri == "s3://bucket/jobs"
    assert settings.store.edge_endpoint == "http://minio:9000"
    assert settings.namespaces == ()
    assert settings.listen == ("", 8080)
    assert "a-secret" not in repr(settings)


def test_settings_are_read():
    more = {"FEDLOOM_NAMESPACES": "a, b,", "FEDLOOM_LISTEN": "127.0.0.1:9", "POD_NAME": "p"}
    settings = read_settings(GIVEN | more | {"FEDLOOM_EDGE_STATE_PATH": ""})
    assert settings.namespaces == ("a", "b")
    assert settings.listen == ("127.0.0.1", 9)
    assert settings.edge_state_path is None
    assert settings.identity.startswith("p-")


def test_every_wrong_setting_is_named():
    wrong = {
        "FEDLOOM_STORE": "/folder",
        "FEDLOOM_WORKERS": "many",
        "FEDLOOM_DEADLINE_GRACE_SECONDS": "-1",
        "FEDLOOM_LISTEN": "nowhere",
    }
    with pytest.raises(InvalidJobError) as error:
        read_settings(wrong)
    fields = {problem.field for problem in error.value.problems}
    assert set(wrong) <= fields
    assert {"FEDLOOM_STORE_ENDPOINT", "AWS_ACCESS_KEY_ID", "FEDLOOM_STEPS_IMAGE"} <= fields


def test_metrics_read_as_prometheus_wants_them():
    metrics = Metrics({"rounds_total": "Rounds."})
    metrics.add("rounds_total", job='a"b\n')
    metrics.add("rounds_total", 2, job='a"b\n')
    metrics.observe("seconds", 0.3)
    metrics.gauge("depth", lambda: {(): 4.0})
    text = metrics.render()
    assert "# HELP rounds_total Rounds.\n# TYPE rounds_total counter\n" in text
    assert 'rounds_total{job="a\\"b\\n"} 3\n' in text
    assert 'seconds_bucket{le="0.1"} 0\n' in text
    assert 'seconds_bucket{le="0.5"} 1\n' in text
    assert 'seconds_bucket{le="+Inf"} 1\n' in text
    assert "seconds_sum 0.3\n" in text
    assert "depth 4\n" in text


def test_health_and_readiness_are_answered():
    ready = []
    server = serve(("127.0.0.1", 0), Metrics({}), lambda: True, lambda: bool(ready))
    root = f"http://127.0.0.1:{server.server_address[1]}"

    def code(path):
        try:
            with urllib.request.urlopen(root + path, timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    try:
        assert [code(path) for path in ("/healthz", "/readyz", "/x")] == [200, 503, 404]
        ready.append(1)
        assert code("/readyz") == 200
        assert code("/metrics") == 200
    finally:
        server.shutdown()
        server.server_close()


def test_a_log_line_is_json_with_the_job_the_round_and_the_client():
    record = logging.LogRecord("x", logging.INFO, "f", 1, "round %d", (3,), None)
    record.job, record.round, record.client = "ns/toy", 3, "a"
    line = json.loads(_Lines().format(record))
    assert (line["job"], line["round"], line["client"]) == ("ns/toy", 3, "a")
    assert (line["message"], line["level"]) == ("round 3", "info")


@pytest.fixture
def start(bench):
    """Run whole controllers over the bench's cluster."""
    running = []

    def started():
        settings = bench.reconciler._around.shared.settings
        settings = replace(settings, workers=2, identity=f"controller-{len(running)}")
        controller = Controller(settings, bench.cluster)
        thread = threading.Thread(target=controller.run, daemon=True)
        thread.start()
        running.append((controller, thread))
        return controller

    yield started
    for controller, thread in running:
        controller.stop()
        thread.join(10)


def test_a_controller_follows_a_job_to_its_end_by_events_alone(bench, start):
    controller = start()
    eventually(lambda: controller.leader.is_leader and controller.is_ready)
    bench.apply_job()
    for number in range(3):
        eventually(lambda number=number: f"r{number}-a1" in bench.workflows())
        bench.commit(number)
        bench.end_workflow(f"r{number}-a1")
    eventually(lambda: bench.status["phase"] == "Succeeded")
    assert bench.workflows() == ["r0-a1", "r1-a1", "r2-a1"]
    text = controller.metrics.render()
    assert "fedloom_rounds_total 3" in text
    assert 'fedloom_jobs{phase="Succeeded"} 1' in text


def test_of_two_controllers_one_acts_and_the_other_takes_over(bench, start):
    one = start()
    eventually(lambda: one.leader.is_leader)
    two = start()
    bench.apply_job()
    eventually(lambda: bench.workflows() == ["r0-a1"])
    eventually(lambda: two.is_ready)
    assert not two.leader.is_leader
    one.stop()
    eventually(lambda: two.leader.is_leader)
    bench.commit(0)
    bench.end_workflow("r0-a1")
    eventually(lambda: bench.workflows() == ["r0-a1", "r1-a1"])
    assert bench.cluster.get(LEASES, "ns", LEASE)["spec"]["leaseTransitions"] == 1


def test_an_outage_of_the_api_server_ends_and_the_job_goes_on(bench, start):
    controller = start()
    eventually(lambda: controller.leader.is_leader)
    bench.apply_job()
    eventually(lambda: bench.workflows() == ["r0-a1"])
    bench.cluster.is_down = True
    time.sleep(0.5)
    bench.cluster.is_down = False
    bench.commit(0)
    bench.end_workflow("r0-a1")
    eventually(lambda: bench.workflows() == ["r0-a1", "r1-a1"])
    eventually(lambda: bench.cluster.get(JOBS, "ns", "toy")["status"]["phase"] == "Running")
