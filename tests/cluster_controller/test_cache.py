"""The cache follows a watch, whatever happens to it."""

from __future__ import annotations

import time

import pytest

from controller.cluster.cache import Cache
from controller.cluster.resources import LABEL_UID, NODES, PODS


def eventually(is_so, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def pods(cluster):
    cache = Cache(cluster, PODS, ("ns",), LABEL_UID, index=LABEL_UID)
    yield cache
    cache.stop()


def pod(name, uid="u1", namespace="ns"):
    meta = {"name": name, "namespace": namespace, "labels": {LABEL_UID: uid}}
    return {"metadata": meta, "spec": {}}


def test_what_was_there_and_what_comes_is_found(cluster, pods):
    cluster.create(PODS, pod("old"))
    pods.start()
    eventually(lambda: pods.is_synced)
    cluster.create(PODS, pod("new"))
    eventually(lambda: pods.get("ns", "new"))
    assert pods.get("ns", "old") is not None
    assert len(pods.all()) == 2


def test_what_goes_is_forgotten_and_told(cluster, pods):
    cluster.create(PODS, pod("p"))
    seen = []
    pods.on_change(lambda document: seen.append(document["metadata"]["name"]))
    pods.start()
    eventually(lambda: pods.get("ns", "p"))
    cluster.delete(PODS, "ns", "p")
    eventually(lambda: pods.get("ns", "p") is None)
    assert seen == ["p", "p"]
    assert pods.labelled("u1") == []


def test_objects_are_found_by_their_label_also_after_it_changed(cluster, pods):
    cluster.create(PODS, pod("p"))
    pods.start()
    eventually(lambda: len(pods.labelled("u1")) == 1)
    cluster.patch(PODS, "ns", "p", {"metadata": {"labels": {LABEL_UID: "u2"}}})
    eventually(lambda: len(pods.labelled("u2")) == 1)
    assert pods.labelled("u1") == []


def test_other_namespaces_and_objects_without_the_label_are_not_looked_at(cluster, pods):
    cluster.create(PODS, pod("far", namespace="elsewhere"))
    cluster.create(PODS, {"metadata": {"name": "plain", "namespace": "ns"}})
    pods.start()
    eventually(lambda: pods.is_synced)
    assert pods.all() == []


def test_an_event_that_was_missed_in_an_outage_is_made_up_for(cluster, pods):
    cluster.create(PODS, pod("p"))
    pods.start()
    eventually(lambda: pods.get("ns", "p"))
    cluster.is_down = True
    eventually(lambda: pods.last_error)
    cluster.is_down = False
    cluster.delete(PODS, "ns", "p")
    cluster.create(PODS, pod("q"))
    eventually(lambda: pods.get("ns", "p") is None and pods.get("ns", "q"))
    eventually(lambda: not pods.last_error)


def test_a_version_that_the_server_forgot_means_listing_again(cluster, pods):
    pods.refresh("ns")
    cluster.create(PODS, pod("p"))
    cluster.forget()
    pods.start()  # its first watch begins before what was forgotten
    eventually(lambda: pods.get("ns", "p"))


def test_an_older_version_never_replaces_a_newer_one(cluster, pods):
    old = cluster.create(PODS, pod("p"))
    new = cluster.patch(PODS, "ns", "p", {"spec": {"nodeName": "edge-1"}})
    pods.take("MODIFIED", new)
    pods.take("MODIFIED", old)
    assert pods.get("ns", "p")["spec"] == {"nodeName": "edge-1"}


def test_a_change_of_nothing_that_is_kept_is_told_to_nobody(cluster):
    cache = Cache(cluster, NODES, keep=lambda d: {"metadata": {k: d["metadata"][k] for k in _META}})
    told = []
    cache.on_change(told.append)
    cluster.create(NODES, {"metadata": {"name": "n"}, "status": {"heartbeat": 1}})
    cache.refresh()
    beat = cluster.patch(NODES, None, "n", {"status": {"heartbeat": 2}})
    cache.take("MODIFIED", beat)
    assert len(told) == 1


_META = ("name", "resourceVersion")
