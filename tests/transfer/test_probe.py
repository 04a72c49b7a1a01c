"""Mode auto: clients compare candidates on their own data, and starting from scratch is one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedloom.algorithms.transfer.answers import Probe

BOTH = {"from": [{"model": "bad"}, {"model": "good"}]}


@pytest.fixture
def choice(shop: Any, line: Any) -> Any:
    """A shop with a model that knows the clients' line, and one that knows its opposite."""
    shop.model("good", line(3.0))
    shop.model("bad", line(-3.0))
    return shop


def test_the_source_with_the_surely_lowest_loss_becomes_the_first_model_bit_for_bit(
    choice: Any, line: Any
) -> None:
    assert choice.run(BOTH).phase == "Succeeded"
    found = choice.beginning
    assert (found["choice"], found["reason"], found["is_sure"]) == ("model/good", "BestLoss", True)
    assert [score["candidate"] for score in found["scores"]] == [
        "model/good",
        "scratch",
        "model/bad",
    ]
    for name, array in choice.first_model().items():
        np.testing.assert_array_equal(array, line(3.0)[name])


def test_against_bad_sources_alone_a_job_begins_from_scratch(choice: Any) -> None:
    choice.run(None, "plain")
    assert choice.run({"from": [{"model": "bad"}]}, "plain2").phase == "Succeeded"
    assert choice.beginning["choice"] == "scratch"
    assert choice.beginning["source"] is None


def test_a_probe_sends_up_losses_and_counts_and_nothing_else(choice: Any) -> None:
    from controller.embedded import scratch

    assert choice.run(BOTH).phase == "Succeeded"
    traffic = choice.beginning["traffic"]
    assert 0 < traffic["uplink_bytes"] < 3 * 400
    assert choice.result()["traffic"] == traffic
    assert scratch.memory_folder() is None or not list(
        scratch.memory_folder().glob("**/report.json")
    )


def test_few_samples_are_not_trusted(choice: Any) -> None:
    assert choice.run({**BOTH, "minSamples": 25}).phase == "Succeeded"
    found = choice.beginning
    assert (found["choice"], found["reason"]) == ("scratch", "TooFewSamples")
    assert not found["is_sure"]
    assert "24 probed samples" in found["message"]


def test_a_metric_of_which_more_is_better_is_declared(choice: Any) -> None:
    choice.metrics = '"score": -loss'
    transfer = {**BOTH, "metric": "score", "goal": "maximize"}
    assert choice.run(transfer).phase == "Succeeded"
    assert choice.beginning["choice"] == "model/good"


@pytest.mark.parametrize("fault", ["no metric", "no evaluate"])
def test_a_script_that_cannot_be_probed_is_refused_with_the_reason(choice: Any, fault: str) -> None:
    choice.metrics = '"accuracy": 1.0'
    if fault == "no evaluate":
        choice.script = choice.script.replace("def evaluate", "def assess")
    decision = choice.run(BOTH)
    assert (decision.phase, decision.reason) == ("Failed", "ProbeFailed")
    expected = "spec.transfer.metric" if fault == "no metric" else "evaluate does not exist"
    assert expected in decision.message


def test_a_client_that_fails_is_left_out_and_named(choice: Any) -> None:
    choice.slopes = (3.0, 3.1, 2.9, 3.0)
    choice.script = choice.script.replace(
        "error = self.x @ model",
        "assert self.client.name != 'client-1'\n        error = self.x @ model",
    )
    assert choice.run(BOTH).phase == "Succeeded"
    assert choice.beginning["choice"] == "model/good"
    clients = choice.result()["transfer"]["clients"]
    assert clients["client-1"]["reason"] == "ScriptFailed"
    assert clients["client-0"]["state"] == "Succeeded"


def test_the_choice_does_not_depend_on_who_was_first(choice: Any) -> None:
    digests = set()
    for parallel in (0, 3):
        choice.parallel = parallel
        choice.run(BOTH, rounds=2)
        digests.add(choice.events[-1]["model"]["digest"])
        (choice.folder / "state" / "target").rename(choice.folder / f"with-{parallel}")
    assert len(digests) == 1


def test_under_noise_a_probe_spends_budget_and_says_so(choice: Any) -> None:
    choice.slopes = (3.0,) * 24
    privacy = {"clipNorm": 1.0, "noiseMultiplier": 1.0, "delta": 1e-5}
    fields = {"privacy": privacy, "rounds": 1}
    assert choice.run({**BOTH, "bound": 12.0}, **fields).phase == "Succeeded"
    begun = choice.beginning
    assert begun["epsilon"] == pytest.approx(4.377, abs=0.01)
    assert len({score["standard_error"] for score in begun["scores"]} - {0.0}) == 1
    (promise,) = [e["message"] for e in choice.events if e.get("reason") == "Privacy"]
    assert "The probe of spec.transfer, before round 1, costs 4.38" in promise
    with_probe = choice.result(1)["metrics"]["privacy/epsilon"]
    assert choice.run(None, "plain", **fields).phase == "Succeeded"
    assert choice.result(1, "plain")["metrics"]["privacy/epsilon"] == pytest.approx(
        begun["epsilon"]
    )
    assert with_probe > begun["epsilon"] * 1.3


def test_noise_hides_one_client_in_the_mean_of_all() -> None:
    from components.choose import noised

    probes = {
        name: {f"c{number}": Probe(loss, 3) for number in range(10)}
        for name, loss in (("scratch", 2.0), ("a", 100.0), ("b", -7.0))
    }
    privacy = {"noise_multiplier": 2.0, "bound": 5.0, "shift": 0.0}
    found, uncertain = noised(probes, privacy)
    assert uncertain**2 == pytest.approx((2.0 * 5.0 * 3**0.5 / 10) ** 2 + 5.0**2 / 20)
    assert all(len(set(answers.values())) == 1 for answers in found.values())
    assert {answer.samples for answers in found.values() for answer in answers.values()} == {1}
    many = [noised(probes, privacy)[0] for _ in range(300)]
    means = {name: np.mean([each[name]["c0"].loss for each in many]) for name in probes}
    assert means["a"] == pytest.approx(5.0, abs=0.5)  # cut to the bound
    assert means["b"] == pytest.approx(0.0, abs=0.5)
