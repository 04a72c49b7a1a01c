"""What is measured of a round."""

import math

import numpy as np
import pytest

from fedloom.tracking.measurements import measure, measure_all

ROUND_KEYS = {"round_seconds", "uplink_bytes", "downlink_bytes", "clients"}
FAILED = {
    "state": "Failed",
    "reason": "ScriptFailed",
    "message": "boom",
    "num_examples": None,
    "seconds": None,
    "uplink_bytes": None,
    "metrics": {},
}


def test_a_round_gives_its_own_and_its_clients_numbers(round_result):
    numbers = measure_all(round_result(2), clients=2)
    assert numbers == {
        "accuracy": 0.75,
        "train/loss": 0.5,
        "round_seconds": 0.5,
        "uplink_bytes": 400,
        "downlink_bytes": 400,
        "clients": 2,
        "client/a/loss": 0.25,
        "client/a/num_examples": 120,
        "client/a/seconds": 0.25,
        "client/a/uplink_bytes": 100,
        "client/b/loss": 1.25,
        "client/b/num_examples": 120,
        "client/b/seconds": 0.25,
        "client/b/uplink_bytes": 100,
    }
    assert measure(round_result(2)).keys() == ROUND_KEYS | {"accuracy", "train/loss"}


def test_a_failed_client_is_not_counted_and_gives_no_numbers(round_result):
    result = round_result(1)
    result["clients"]["b"] = FAILED
    numbers = measure_all(result, clients=2)
    assert numbers["clients"] == 1
    assert not [key for key in numbers if key.startswith("client/b/")]


def test_round_0_gives_its_metrics_alone(round_result):
    assert measure_all(round_result(0, metrics={"accuracy": 0.1}), clients=2) == {"accuracy": 0.1}
    assert measure_all(round_result(0), clients=2) == {}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 10**400, "much"])
def test_what_is_no_finite_number_is_left_out_and_counted(round_result, bad):
    result = round_result(1, metrics={"accuracy": 0.5, "loss": bad})
    result["clients"]["a"]["metrics"]["loss"] = bad
    numbers = measure_all(result, clients=2)
    assert numbers["non_finite_values"] == 2
    assert "loss" not in numbers
    assert "client/a/loss" not in numbers
    assert measure(result)["non_finite_values"] == 1


def test_a_users_metric_never_takes_the_name_of_ours(round_result):
    result = round_result(
        1, metrics={"clients": 0.5, "round_seconds": 7.0, "non_finite_values": 3.0}
    )
    numbers = measure(result)
    assert numbers["clients"] == 2
    assert numbers["round_seconds"] == 0.5
    assert "non_finite_values" not in numbers
    assert sorted(numbers.values()) == sorted([0.5, 200, 400, 2, 0.5, 7.0, 3.0])


def test_two_metrics_that_sanitise_alike_are_both_kept(round_result):
    numbers = measure(round_result(1, metrics={"top#5": 1.0, "top%5": 2.0}))
    found = {key: value for key, value in numbers.items() if key.startswith("top")}
    assert sorted(found.values()) == [1.0, 2.0]
    assert found["top_5"] == 1.0


def many(number):
    return {
        f"c{place}": {"state": "Succeeded", "num_examples": place, "metrics": {"loss": place / 7}}
        for place in range(number)
    }


def test_up_to_100_clients_have_curves_of_their_own(round_result):
    numbers = measure_all(round_result(1, clients=many(100)), clients=100)
    assert numbers["client/c99/loss"] == 99 / 7
    assert not [key for key in numbers if key.startswith("client_")]


def test_more_than_100_clients_give_their_distribution(round_result):
    numbers = measure_all(round_result(1, clients=many(101)), clients=101)
    losses = [place / 7 for place in range(101)]
    found = {key: value for key, value in numbers.items() if key.startswith("client_loss/")}
    assert found == pytest.approx(
        {
            "client_loss/min": 0,
            "client_loss/median": np.median(losses),
            "client_loss/p90": np.quantile(losses, 0.9),
            "client_loss/max": max(losses),
        }
    )
    assert numbers["client_num_examples/max"] == 100
    assert not [key for key in numbers if key.startswith("client/")]


def test_a_small_cohort_of_a_big_job_gives_its_distribution_too(round_result):
    numbers = measure_all(round_result(1), clients=1000)
    assert numbers["client_loss/median"] == 1.0
    assert not [key for key in numbers if key.startswith("client/")]


def test_a_client_that_gives_nan_is_left_out_of_the_distribution(round_result):
    clients = many(101)
    clients["c100"]["metrics"]["loss"] = math.nan
    numbers = measure_all(round_result(1, clients=clients), clients=101)
    assert numbers["client_loss/max"] == 99 / 7
    assert numbers["non_finite_values"] == 1
