"""The dispatcher: each Job once, one watch for all, an end when all have ended."""

from __future__ import annotations

import threading
import time

from controller.cluster.resources import BATCH_JOBS, LABEL_ATTEMPT, LABEL_ROUND, LABEL_UID
from controller.dispatcher import Dispatcher, Order, end_of

LABELS = {LABEL_UID: "u", LABEL_ROUND: "1", LABEL_ATTEMPT: "1"}


def order(name, may_fail=True):
    meta = {"name": name, "namespace": "ns", "labels": LABELS}
    return Order(f"client-{name}", name, may_fail, {"metadata": meta, "spec": {}})


def finish(cluster, name, kind="Complete", reason=""):
    condition = {"type": kind, "status": "True", "reason": reason, "message": "so it is"}
    cluster.set_status(BATCH_JOBS, "ns", name, {"conditions": [condition]})


def running(cluster, *orders):
    found = []
    thread = threading.Thread(target=lambda: found.append(Dispatcher(cluster, "ns", orders).run()))
    thread.start()
    until = time.monotonic() + 5
    while len(cluster.all(BATCH_JOBS)) < len(orders) and time.monotonic() < until:
        time.sleep(0.01)
    return thread, found


def test_it_ends_well_when_all_jobs_have_ended_though_one_failed(cluster, capsys):
    thread, found = running(cluster, order("a"), order("b"))
    finish(cluster, "a")
    finish(cluster, "b", "Failed", "BackoffLimitExceeded")
    thread.join(5)
    assert found == [True]
    out = capsys.readouterr().out
    assert '"client": "a", "state": "Succeeded"' in out
    assert '"client": "b", "state": "Failed", "reason": "BackoffLimitExceeded"' in out


def test_it_fails_where_a_group_that_must_succeed_did_not(cluster):
    thread, found = running(cluster, order("a", may_fail=False))
    finish(cluster, "a", "Failed")
    thread.join(5)
    assert found == [False]


def test_begun_again_it_makes_no_job_twice_and_sees_what_ended_meanwhile(cluster):
    cluster.create(BATCH_JOBS, order("a").job)
    finish(cluster, "a")
    assert Dispatcher(cluster, "ns", [order("a")]).run()
    assert len(cluster.all(BATCH_JOBS)) == 1


def test_a_job_that_is_deleted_has_ended(cluster):
    thread, found = running(cluster, order("a"))
    time.sleep(0.1)
    cluster.delete(BATCH_JOBS, "ns", "a")
    thread.join(5)
    assert found == [True]


def test_an_outage_of_the_api_server_is_waited_out(cluster):
    cluster.is_down = True
    thread, found = running(cluster)
    thread = threading.Thread(
        target=lambda: found.append(Dispatcher(cluster, "ns", [order("a")]).run())
    )
    thread.start()
    time.sleep(0.2)
    cluster.is_down = False
    until = time.monotonic() + 5
    while not cluster.all(BATCH_JOBS) and time.monotonic() < until:
        time.sleep(0.01)
    finish(cluster, "a")
    thread.join(5)
    assert found[-1] is True


def test_a_lost_nodes_job_counts_as_failed_though_its_pod_stays():
    conditions = [{"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded"}]
    assert end_of({"status": {"conditions": conditions}}) == (False, "DeadlineExceeded", "")
    assert end_of({"status": {"conditions": [{"type": "Failed", "status": "False"}]}}) is None
    assert end_of({}) is None
