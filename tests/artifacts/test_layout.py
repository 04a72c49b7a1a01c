"""Which key holds what."""

from __future__ import annotations

import pytest

from fedloom.artifacts import layout
from fedloom.artifacts.local import LocalStore
from fedloom.errors import ArtifactError


def test_the_keys_of_a_round_are_those_of_the_contract():
    assert layout.round_folder(7) == "round-0007"
    assert layout.model_key(7) == "round-0007/model.safetensors"
    assert layout.model_delta_key(7) == "round-0007/model-delta.safetensors"
    assert layout.plan_key(7, 1) == "round-0007/plan.json"
    assert layout.plan_key(7, 2) == "round-0007/plan-2.json"
    assert layout.attempt_key(7, 2) == "round-0007/attempt-2.json"
    assert layout.update_key(7, "a", 2) == "round-0007/updates/a/2/update.safetensors"
    assert layout.report_key(7, "a", 2) == "round-0007/updates/a/2/report.json"
    assert layout.result_key(7) == "round-0007/result.json"
    assert layout.state_key("server-optimizer", 7) == "state/server-optimizer-0007.safetensors"


def test_a_job_made_again_has_another_place():
    first = layout.job_prefix("default", "digits", "0a1b2c3d-1111-2222-3333-444455556666")
    second = layout.job_prefix("default", "digits", "9a1b2c3d-1111-2222-3333-444455556666")
    assert first == "default/digits-0a1b2c3d"
    assert first != second


@pytest.mark.parametrize("number", [0, 1, 999, 9999, 10_000, 123_456])
def test_the_round_of_a_key_is_found_again(number):
    keys = [
        layout.round_folder(number),
        layout.model_key(number),
        layout.update_key(number, "round-0003", 1),
        layout.result_key(number),
        layout.state_key("server-optimizer", number),
        f"default/digits-0a1b2c3d/{layout.model_key(number)}",
    ]
    assert [layout.round_number(key) for key in keys] == [number] * len(keys)


@pytest.mark.parametrize("key", ["job.json", "round-7/x", "aground-0007/x", "state/x.safetensors"])
def test_a_key_of_no_round_has_no_number(key):
    assert layout.round_number(key) is None


def test_up_to_round_9999_a_listing_is_in_the_order_of_the_rounds(tmp_path):
    store = LocalStore(tmp_path)
    keys = [layout.result_key(number) for number in (0, 1, 2, 9, 10, 99, 100, 1000, 9999)]
    for key in reversed(keys):
        store.put(key, b"")
    assert store.list("") == keys


def test_beyond_round_9999_the_order_is_asked_for(tmp_path):
    numbers = (1, 9998, 9999, 10_000, 10_001, 100_000)
    keys = [layout.result_key(number) for number in numbers]
    assert sorted(keys) != keys
    assert layout.sort_by_round(reversed(keys)) == keys
    assert layout.sort_by_round(["round-0001/b", "job.json", "round-0001/a"]) == [
        "job.json",
        "round-0001/a",
        "round-0001/b",
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda: layout.round_folder(-1),
        lambda: layout.plan_key(1, 0),
        lambda: layout.update_key(1, "a/b", 1),
        lambda: layout.update_key(1, "..", 1),
        lambda: layout.update_key(1, "", 1),
        lambda: layout.state_key("a/b", 1),
        lambda: layout.job_prefix("default", "a/b", "0a1b2c3d-1111"),
        lambda: layout.job_prefix("", "a", "0a1b2c3d-1111"),
        lambda: layout.job_prefix("default", "a", "0a1b"),
    ],
)
def test_what_would_break_the_layout_is_refused(call):
    with pytest.raises(ArtifactError) as caught:
        call()
    assert caught.value.reason == "InvalidKey"
