"""Who takes part in a round: by number, by chance, and with reserves for those that fail."""

from __future__ import annotations


def cohorts(bench):
    return [sorted(event["clients"]) for event in bench.rounds()]


def test_poisson_sampling_gives_cohorts_of_any_size_and_the_same_ones_again(bench):
    bench.spec["rounds"] = 8
    bench.spec["participation"] |= {"clientsPerRound": 2, "sampling": "poisson", "retries": 9}
    bench.spec["participation"].pop("minClients")
    assert bench.run().phase == "Succeeded"
    first, digest = cohorts(bench), bench.finished["model"]["digest"]
    assert len({len(cohort) for cohort in first}) > 1
    bench.run(bench.folder / "again")
    assert (cohorts(bench), bench.finished["model"]["digest"]) == (first, digest)


def test_a_reserve_takes_the_place_of_a_client_that_failed_and_stays_at_home_otherwise(bench):
    bench.spec["rounds"] = 6
    bench.spec["participation"] |= {"clientsPerRound": 2, "overSelection": 1.5, "minClients": 2}
    assert bench.run().phase == "Succeeded"
    assert all(len(cohort) == 2 for cohort in cohorts(bench))
    bench.break_client("b", "raise ValueError('no sensor')")
    assert bench.run(bench.folder / "broken").phase == "Succeeded"
    for event in bench.rounds():
        states = {name: client["state"] for name, client in event["clients"].items()}
        assert states in ({"a": "Succeeded", "c": "Succeeded"},) or states == {
            "a": "Succeeded",
            "b": "Failed",
            "c": "Succeeded",
        }
    assert any("b" in event["clients"] for event in bench.rounds())
