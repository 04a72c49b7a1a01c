"""Full weights and bodies of other models as round 0, and what becomes of them in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedloom.artifacts.arrays import load_arrays


def test_a_job_begins_with_all_weights_of_a_model(shop: Any, line: Any) -> None:
    shop.model("known", line(3.0))
    decision = shop.run({"mode": "warmStart", "from": [{"model": "known"}]})
    assert decision.phase == "Succeeded", decision
    np.testing.assert_array_equal(shop.first_model()["head.w"], np.full((4, 1), 0.75, np.float32))
    assert (shop.beginning["choice"], shop.beginning["kind"]) == ("model/known", "full")


def test_a_body_gets_a_new_head_of_the_jobs_own(shop: Any, line: Any) -> None:
    shop.model("known", line(3.0) | {"head.w": np.ones((4, 7), np.float32)})
    decision = shop.run({"mode": "body", "from": [{"model": "known"}]})
    assert decision.phase == "Succeeded", decision
    first = shop.first_model()
    np.testing.assert_array_equal(first["body.w"], np.ones((1, 4), np.float32))
    np.testing.assert_array_equal(first["head.w"], np.zeros((4, 1), np.float32))
    assert "1 of 2 arrays" in shop.beginning["message"]


def test_a_frozen_body_is_neither_trained_nor_sent(shop: Any, line: Any) -> None:
    shop.model("known", line(3.0))
    transfer = {"mode": "body", "from": [{"model": "known"}]}
    shop.run(transfer, "free", rounds=2)
    free = shop.result(2, "free")["clients"]["client-0"]["uplink_bytes"]
    decision = shop.run({**transfer, "freeze": True}, "frozen", rounds=2)
    assert decision.phase == "Succeeded", decision
    last = shop.first_model("frozen", 2)
    np.testing.assert_array_equal(last["body.w"], np.ones((1, 4), np.float32))
    assert last["head.w"].any()
    assert not np.array_equal(shop.first_model("free", 2)["body.w"], last["body.w"])
    assert shop.result(2, "frozen")["clients"]["client-0"]["uplink_bytes"] < free


def test_a_frozen_body_goes_with_secure_aggregation_and_with_noise(shop: Any, line: Any) -> None:
    shop.model("known", line(3.0))
    transfer = {"mode": "body", "from": [{"model": "known"}], "freeze": True}
    for number, privacy in enumerate(
        (
            {"secureAggregation": True, "maxValue": 4.0},
            {"clipNorm": 1.0, "noiseMultiplier": 0.1, "delta": 1e-5},
        )
    ):
        decision = shop.run(transfer, f"t{number}", privacy=privacy)
        assert decision.phase == "Succeeded", decision
        last = shop.first_model(f"t{number}", 1)
        np.testing.assert_array_equal(last["body.w"], np.ones((1, 4), np.float32))
        assert last["head.w"].any()


def test_a_script_that_ignores_the_correction_cannot_move_a_frozen_body(
    shop: Any, line: Any
) -> None:
    shop.script = shop.script.replace(
        "context.correct(gradients, model).items()", "gradients.items()"
    )
    shop.model("known", line(3.0))
    transfer = {"mode": "body", "from": [{"model": "known"}], "freeze": True}
    assert shop.run(transfer, rounds=2).phase == "Succeeded"
    last = shop.first_model("target", 2)
    np.testing.assert_array_equal(last["body.w"], np.ones((1, 4), np.float32))


@pytest.mark.parametrize("field", ["job", "uri"])
def test_other_ways_to_name_the_source_give_the_same_model(
    shop: Any, line: Any, field: str
) -> None:
    path = shop.model("known", line(2.0))
    source = {"uri": path.name}
    if field == "job":
        shop.run({"mode": "warmStart", "from": [{"model": "known"}]}, "teacher", rounds=2)
        source = {"job": "teacher"}
    assert shop.run({"mode": "warmStart", "from": [source]}).phase == "Succeeded"
    expected = shop.first_model("teacher", 2) if field == "job" else line(2.0)
    for name, array in shop.first_model().items():
        np.testing.assert_array_equal(array, expected[name])


def test_the_same_job_begins_with_the_same_bits_again(shop: Any, line: Any) -> None:
    shop.model("known", line(3.0))
    transfer = {"mode": "warmStart", "from": [{"model": "known"}]}
    shop.run(transfer, rounds=2)
    first = shop.events[-1]["model"]["digest"]
    (shop.folder / "state" / "target").rename(shop.folder / "before")
    shop.run(transfer, rounds=2)
    assert shop.events[-1]["model"]["digest"] == first


def own_model(shop: Any, client: str) -> dict[str, Any]:
    path = shop.folder / "state" / "target" / "edge" / client / "fedloom" / "personal.safetensors"
    return load_arrays(path)[0]


def test_every_client_keeps_what_its_own_training_made(shop: Any) -> None:
    shop.slopes = (3.0, -3.0)
    assert shop.run({"personalize": "finetune"}, rounds=6).phase == "Succeeded"
    slopes = {}
    for client in ("client-0", "client-1"):
        model = own_model(shop, client)
        slopes[client] = float((model["body.w"] @ model["head.w"])[0, 0])
    common = shop.first_model("target", 6)
    middle = float((common["body.w"] @ common["head.w"])[0, 0])
    assert slopes["client-1"] < middle < slopes["client-0"]


def test_a_head_of_ones_own_is_never_sent(shop: Any) -> None:
    shop.slopes = (3.0, -3.0)
    transfer = {"personalize": "body", "head": ["head.*"]}
    assert shop.run(transfer, rounds=8).phase == "Succeeded"
    common = shop.first_model("target", 8)
    np.testing.assert_array_equal(common["head.w"], np.zeros((4, 1), np.float32))
    for client, slope in (("client-0", 3.0), ("client-1", -3.0)):
        model = own_model(shop, client)
        assert np.sign((model["body.w"] @ model["head.w"])[0, 0]) == np.sign(slope)


def test_ditto_pulls_a_model_of_ones_own_to_the_common_one(shop: Any) -> None:
    shop.slopes = (3.0, -3.0)
    distances = []
    for number, mu in enumerate((0.0, 5.0)):
        shop.run({"anchor": {"kind": "ditto", "mu": mu}}, rounds=6)
        assert shop.events[-1]["phase"] == "Succeeded", shop.events[-1]
        model, common = own_model(shop, "client-0"), shop.first_model("target", 5)
        gap = model["body.w"] @ model["head.w"] - common["body.w"] @ common["head.w"]
        distances.append(abs(float(gap[0, 0])))
        (shop.folder / "state" / "target").rename(shop.folder / f"mu-{number}")
    assert distances[1] < distances[0] / 2


def test_ditto_leaves_the_common_model_as_it_would_be_without(shop: Any) -> None:
    shop.run(None, "plain", rounds=3)
    plain = shop.events[-1]["model"]["digest"]
    (shop.folder / "state" / "plain").rename(shop.folder / "before")
    shop.run({"anchor": {"kind": "ditto", "mu": 1.0}}, "plain", rounds=3)
    assert shop.events[-1]["model"]["digest"] == plain


def test_ditto_refuses_a_script_that_does_not_correct(shop: Any) -> None:
    shop.script = shop.script.replace(
        "context.correct(gradients, model).items()", "gradients.items()"
    )
    decision = shop.run({"anchor": {"kind": "ditto", "mu": 1.0}})
    assert decision.phase == "Failed"
    assert "ditto" in decision.message
