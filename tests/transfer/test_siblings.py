"""Jobs that learn from jobs on one machine: one after the other, side by side, unfinished, in circles."""

from __future__ import annotations

import json
import shutil
import threading
from typing import Any

import numpy as np
import pytest

from fedloom.api.documents import read_documents
from fedloom.api.running_order import jobs_to_run
from fedloom.api.validation import validate
from fedloom.errors import InvalidJobError

WARM = {"mode": "warmStart", "from": [{"job": "teacher"}]}


def test_a_job_begins_with_the_final_model_of_its_sibling_and_knows_its_origin(shop: Any) -> None:
    shop.run(None, "teacher", rounds=3)
    decision = shop.run(WARM, rounds=2)
    assert decision.phase == "Succeeded", decision
    final = shop.first_model("teacher", 3)
    for name, array in shop.first_model().items():
        np.testing.assert_array_equal(array, final[name])
    source = shop.result()["transfer"]["source"]
    assert (source["job"], source["round"]) == ("default/teacher", 3)
    assert shop.result(2)["lineage"] == source


def test_two_jobs_share_a_probe_and_a_base_by_naming_the_first_model(shop: Any, line: Any) -> None:
    shop.model("good", line(3.0))
    shop.run({"from": [{"model": "good"}]}, "teacher", rounds=2)
    shared = {"mode": "warmStart", "from": [{"job": "teacher", "start": True}]}
    assert shop.run(shared).phase == "Succeeded"
    np.testing.assert_array_equal(shop.first_model()["head.w"], line(3.0)["head.w"])


def test_a_sibling_that_stopped_halfway_is_no_source(shop: Any) -> None:
    shop.run(None, "teacher", rounds=2)
    folder = next((shop.folder / "state" / "teacher").glob("artifacts/*/*"))
    shutil.rmtree(folder / "round-0002")
    decision = shop.run(WARM)
    assert (decision.phase, decision.reason) == ("Failed", "SourceUnfinished")
    assert "stopped after 1 of 2 rounds" in decision.message


def test_a_sibling_that_failed_is_no_source_and_its_reason_is_told(shop: Any) -> None:
    script = shop.script
    shop.script = script.replace(
        "for _ in range(5):", "raise RuntimeError('no luck')\n        for _ in ():"
    )
    assert shop.run(None, "teacher").phase == "Failed"
    shop.script = script
    decision = shop.run(WARM)
    assert (decision.phase, decision.reason) == ("Failed", "SourceFailed")
    assert "no luck" in decision.message


def test_a_job_waits_for_a_sibling_that_runs(shop: Any) -> None:
    slow = shop.script.replace(
        "for _ in range(5):", "import time; time.sleep(0.15)\n        for _ in range(5):"
    )
    other = type(shop)(shop.folder, script=slow, parallel=1)
    shop.script, shop.parallel = slow, 1
    teacher = threading.Thread(target=lambda: other.run(None, "teacher", rounds=2))
    teacher.start()
    while not list(shop.folder.glob("state/teacher/artifacts/*/*/round-0000/result.json")):
        teacher.join(0.01)
    decision = shop.run(WARM)
    teacher.join()
    assert decision.phase == "Succeeded", decision
    notices = [
        e for e in shop.events if e["event"] == "notice" and e["reason"] == "WaitingForSource"
    ]
    assert notices
    assert "it is running" in notices[0]["message"]


def jobs(shop: Any, **sources: str | None) -> Any:
    """Documents of jobs by name, each with the job that it learns from."""
    specs = [
        (name, shop.spec({"mode": "warmStart", "from": [{"job": source}]} if source else None))
        for name, source in sources.items()
    ]
    return read_documents([shop.write(*specs)])


def test_jobs_of_one_file_run_in_the_order_in_which_they_learn(shop: Any) -> None:
    found = jobs_to_run(jobs(shop, third="second", second="first", first=None))
    assert [job.metadata.name for job in found] == ["first", "second", "third"]


def test_jobs_that_have_nothing_to_do_with_each_other_are_not_run_together(shop: Any) -> None:
    with pytest.raises(InvalidJobError, match="exactly one FederatedLearningJob, or several that"):
        jobs_to_run(jobs(shop, a=None, b="a", c=None))


@pytest.mark.parametrize(
    "sources", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "a"}]
)
def test_a_circle_of_jobs_is_refused_and_named(shop: Any, sources: dict[str, str]) -> None:
    problems = validate(jobs(shop, **sources))
    circles = [each for each in problems if "wait for each other" in each.message]
    assert len(circles) == len(sources)
    assert "default/a -> " in circles[0].message
    with pytest.raises(InvalidJobError, match="wait for each other"):
        jobs_to_run(jobs(shop, **sources))


def test_jobs_without_a_circle_are_not_accused_of_one(shop: Any) -> None:
    problems = validate(jobs(shop, d="b", c="b", b="a", a=None))
    assert not [each for each in problems if "wait for each other" in each.message]


def test_the_record_of_a_job_says_who_may_learn_from_it(shop: Any) -> None:
    shop.run(None, "teacher", annotations={"fedloom.io/transfer-to": "lab"})
    record = json.loads((shop.folder / "state" / "teacher" / "job.json").read_bytes())
    assert record["transfer_to"] == "lab"
