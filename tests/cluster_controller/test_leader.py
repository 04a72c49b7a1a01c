"""The Lease: one leads, and nobody acts after another may have begun."""

from __future__ import annotations

import contextlib

from controller.cluster.answers import ConflictError
from controller.cluster.leader import Leader
from controller.cluster.resources import LEASES


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def leaders(cluster):
    clock = Clock()
    return clock, *(Leader(cluster, "ns", "lease", name, clock) for name in ("one", "two"))


def test_the_first_leads_and_the_second_waits(cluster):
    _, one, two = leaders(cluster)
    one.look()
    two.look()
    assert one.is_leader
    assert not two.is_leader


def test_a_leader_that_renews_stays_one_however_long(cluster):
    clock, one, two = leaders(cluster)
    for _ in range(20):
        one.look()
        two.look()
        clock.now += 2
    assert one.is_leader
    assert not two.is_leader


def test_a_leader_that_stopped_renewing_stops_acting_before_another_begins(cluster):
    clock, one, two = leaders(cluster)
    one.look()
    two.look()
    for _ in range(100):
        clock.now += 0.2
        two.look()
        assert not (one.is_leader and two.is_leader)
    assert two.is_leader


def test_giving_up_hands_over_at_once(cluster):
    _, one, two = leaders(cluster)
    one.look()
    two.look()
    one.stop()
    two.look()
    assert not one.is_leader
    assert two.is_leader
    assert cluster.get(LEASES, "ns", "lease")["spec"]["leaseTransitions"] == 1


def test_of_two_that_take_a_lease_at_once_one_gets_it(cluster, monkeypatch):
    clock, one, two = leaders(cluster)
    one.look()
    two.look()
    clock.now += 100
    stale = cluster.get(LEASES, "ns", "lease")
    two.look()
    monkeypatch.setattr(cluster, "get", lambda *_: stale)
    with contextlib.suppress(ConflictError):
        one.look()
    assert two.is_leader
    assert not one.is_leader
