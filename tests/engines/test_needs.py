"""What the containers of one pod ask of its node."""

from __future__ import annotations

from pipelines.engines.argo_needs import in_turn, without_devices


def requests(*resources):
    containers = [{"name": str(n), "resources": each} for n, each in enumerate(resources)]
    return [each["resources"].get("requests") for each in in_turn(containers)]


def test_what_several_containers_need_in_turn_is_asked_for_once():
    limits = {"limits": {"memory": "8Gi"}}
    assert requests(limits, limits, limits) == [None, {"memory": "0"}, {"memory": "0"}]


def test_limits_stay_with_every_container():
    limits = {"limits": {"memory": "8Gi", "cpu": "2"}}
    changed = in_turn([{"resources": limits}, {"resources": limits}])
    assert [each["resources"]["limits"] for each in changed] == [limits["limits"]] * 2


def test_other_needs_are_asked_for_besides():
    mine, yours = {"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}}
    assert requests(mine, yours, mine) == [{"cpu": "1"}, {"cpu": "2"}, {"cpu": "0"}]


def test_a_device_is_asked_for_wherever_it_is_used():
    given = {
        "limits": {"nvidia.com/gpu": "1", "memory": "1Gi"},
        "requests": {"nvidia.com/gpu": "1"},
    }
    assert requests(given, given)[1] == {"nvidia.com/gpu": "1", "memory": "0"}


def test_containers_without_needs_stay_as_they_are():
    given = [{"name": "a"}, {"name": "b", "resources": {}}]
    assert list(in_turn(given)) == given


def test_our_own_steps_ask_for_no_device():
    given = {"limits": {"nvidia.com/gpu": 1, "memory": "1Gi"}, "claims": [{"name": "x"}]}
    assert without_devices(given) == {"limits": {"memory": "1Gi"}}
