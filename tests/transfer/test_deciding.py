"""What follows from what was found of the sources: begin, wait, or end. Tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.decide import decide
from controller.observed import Observed
from controller.sources import ABSENT, COMING, MOST_SOURCES, READY, Looked, Sources, gathered
from fedloom.api.documents import read_documents
from fedloom.api.transfer import Transfer
from fedloom.api.validation import job_to_run

GOOD = Looked("model/a", READY, candidates=({"name": "model/a", "url": "/a"},))
RUNS = Looked("job/b", COMING, "SourceRunning", "it is running")
GONE = Looked("job/c", ABSENT, "SourceNotFound", "there is none")
BARRED = Looked("job/d", ABSENT, "SourceNotAllowed", "it allows no namespace")
ROUND = Looked("job/e", ABSENT, "SourceCircular", "a -> b -> a")

TABLE = {
    "a source that is there": ([GOOD], "fail", True, "begins"),
    "one that is there, one that is not": ([GOOD, GONE], "fail", True, "begins"),
    "one that runs is waited for": ([GOOD, RUNS], "scratch", True, "waits"),
    "one that runs, on one machine": ([RUNS], "fail", False, "waits"),
    "none, on a cluster, where it may come": ([GONE], "fail", True, "waits"),
    "none, on one machine": ([GONE], "fail", False, "ends"),
    "none, and scratch is allowed": ([GONE], "scratch", True, "begins"),
    "one that nothing will mend": ([BARRED], "fail", True, "ends"),
    "a circle": ([ROUND], "fail", True, "ends"),
    "a circle, and scratch is allowed": ([ROUND], "scratch", True, "begins"),
    "nothing at all": ([], "fail", True, "ends"),
}


@pytest.mark.parametrize("case", TABLE)
def test_sources_amount_to(case: str) -> None:
    looked, fallback, heals, expected = TABLE[case]
    found = gathered(Transfer(mode="auto", fallback=fallback), looked, heals=heals)
    got = "waits" if found.waiting else "ends" if found.refused else "begins"
    assert got == expected
    if got == "ends" and looked:
        assert found.refused == (looked[0].reason, f"{looked[0].name}: {looked[0].message}")


def test_of_a_thousand_candidates_a_bounded_number_is_planned_each_once() -> None:
    many = tuple({"name": f"m{n}", "url": f"/m{n // 2}"} for n in range(1000))
    found = gathered(Transfer(), [Looked("registry", READY, candidates=many)], heals=True)
    assert len(found.candidates) == MOST_SOURCES
    assert [each["name"] for each in found.candidates[:3]] == ["m0", "m2", "m4"]


@pytest.fixture
def job(shop: Any) -> Any:
    transfer = {"from": [{"job": "b"}], "fallback": "scratch"}
    read = job_to_run(read_documents([shop.write(("target", shop.spec(transfer)))]))
    return replace(read, metadata=replace(read.metadata, uid="0" * 32))


def test_before_its_sources_are_known_a_job_does_nothing(job: Any) -> None:
    found = decide(job, Observed(), 0.0)
    assert (found.phase, found.reason, found.start) == ("Running", "LookingForSources", None)


def test_a_job_waits_for_its_source_and_says_so(job: Any) -> None:
    sources = Sources(waiting=("SourceRunning", "job/b: 1 of 3 rounds"))
    found = decide(job, Observed(sources=sources), 0.0)
    assert (found.phase, found.reason, found.start) == ("Running", "WaitingForSource", None)
    assert "1 of 3 rounds" in found.message


def test_a_job_that_cannot_begin_ends_with_the_reason(job: Any) -> None:
    sources = Sources(refused=("SourceNotAllowed", "job/b: no"))
    found = decide(job, Observed(sources=sources), 0.0)
    assert (found.phase, found.reason) == ("Failed", "SourceNotAllowed")


def test_a_probe_asks_the_cohort_of_round_0_and_without_candidates_nobody(job: Any) -> None:
    some = Sources(candidates=GOOD.candidates)
    start = decide(job, Observed(sources=some), 0.0).start
    assert start is not None
    assert start.cohort == ("client-0", "client-1", "client-2")
    start = decide(job, Observed(sources=Sources()), 0.0).start
    assert start is not None
    assert start.cohort == ()


def test_a_probe_waits_for_a_node_that_works(job: Any) -> None:
    everybody = frozenset({"client-0", "client-1", "client-2"})
    observed = Observed(sources=Sources(candidates=GOOD.candidates), unready=everybody)
    assert decide(job, observed, 0.0).reason == "WaitingForNodes"
    start = decide(job, replace(observed, unready=frozenset({"client-0"})), 0.0).start
    assert start is not None
    assert start.cohort == ("client-1", "client-2")


def test_a_probe_of_very_many_clients_asks_256(job: Any, shop: Any) -> None:
    shop.slopes = (3.0,) * 300
    transfer = {"from": [{"job": "b"}], "fallback": "scratch"}
    large = job_to_run(read_documents([shop.write(("target", shop.spec(transfer)))]))
    start = decide(large, Observed(sources=Sources(candidates=GOOD.candidates)), 0.0).start
    assert start is not None
    assert len(start.cohort) == 256


def test_once_it_has_begun_its_sources_do_not_matter(job: Any) -> None:
    last = {"round": 0, "model": {"key": "k", "digest": "d", "size_bytes": 1}, "state": {}}
    observed = Observed(last=last, sources=Sources(refused=("SourceNotFound", "gone")))
    start = decide(job, observed, 0.0).start
    assert start is not None
    assert start.round == 1
