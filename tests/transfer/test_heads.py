"""The probe of bodies: last layers are trained on bodies held still, and judged by other clients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

HEADS = {"probe": "heads", "fallback": "scratch"}
EPOCHS = {"epochs": 1}


@pytest.fixture
def bodies(shop: Any, line: Any) -> Any:
    """Clients whose points need a hidden unit that a random body hardly has; epochs are counted."""
    shop.slopes = (3.0, 3.2, 2.8, 3.1, 2.9, 3.0)
    shop.script = shop.script.replace(
        "for _ in range(5):", "for _ in range(5 * self.client.hyperparameters['epochs']):"
    ).replace('"body.w": rng.normal(size=(1, 4))', '"body.w": 0.01 * rng.normal(size=(1, 4))')
    return shop


def run(shop: Any, *sources: str, **fields: Any) -> dict[str, Any]:
    transfer = {**HEADS, "from": [{"model": name} for name in sources], **fields}
    decision = shop.run(transfer, hyperparameters=EPOCHS)
    assert decision.phase == "Succeeded", decision
    return dict(shop.beginning)


def test_where_labels_differ_a_body_is_taken_that_helps_others(bodies: Any, line: Any) -> None:
    bodies.model("other", {"body.w": line(1.0)["body.w"], "head.w": np.ones((4, 5), np.float32)})
    begun = run(bodies, "other")
    assert (begun["choice"], begun["kind"], begun["reason"]) == (
        "model/other#body",
        "body",
        "BestLoss",
    ), begun
    first = bodies.first_model()
    np.testing.assert_array_equal(first["body.w"], line(1.0)["body.w"])
    np.testing.assert_array_equal(first["head.w"], np.zeros((4, 1), np.float32))
    assert {score["candidate"] for score in begun["scores"]} == {
        "model/other#body",
        "scratch",
        "scratch#body",
    }
    assert begun["source"]["name"] == "model/other"


def test_a_whole_model_that_is_surely_better_comes_before_bodies(bodies: Any, line: Any) -> None:
    bodies.model("whole", line(3.0))
    begun = run(bodies, "whole")
    assert (begun["choice"], begun["kind"]) == ("model/whole", "full")


def test_the_body_of_a_model_with_wrong_labels_may_be_of_use(bodies: Any, line: Any) -> None:
    bodies.model("wrong", line(-3.0))
    begun = run(bodies, "wrong")
    assert (begun["choice"], begun["kind"]) == ("model/wrong#body", "body")
    np.testing.assert_array_equal(bodies.first_model()["head.w"], np.zeros((4, 1), np.float32))


def test_one_client_judges_nobody_and_begins_from_scratch(bodies: Any, line: Any) -> None:
    bodies.slopes = (3.0,)
    bodies.model("wrong", line(-3.0))
    begun = run(bodies, "wrong", minSamples=1)
    assert begun["choice"] == "scratch"


def test_only_last_layers_go_up_and_their_bytes_are_counted(bodies: Any, line: Any) -> None:
    bodies.model("wrong", line(-3.0))
    transfer = {"from": [{"model": "wrong"}], "fallback": "scratch"}
    bodies.run(transfer, "plain", hyperparameters=EPOCHS)
    plain = bodies.beginning["traffic"]
    begun = run(bodies, "wrong")
    assert (
        plain["uplink_bytes"] < begun["traffic"]["uplink_bytes"] < plain["uplink_bytes"] + 6 * 900
    )
    assert begun["traffic"]["downlink_bytes"] > plain["downlink_bytes"]


def test_the_same_job_chooses_the_same_again(bodies: Any, line: Any) -> None:
    bodies.model("wrong", line(-3.0))
    scores = []
    for number in range(2):
        scores.append(run(bodies, "wrong")["scores"])
        (bodies.folder / "state" / "target").rename(bodies.folder / f"run-{number}")
    assert scores[0] == scores[1]
