"""What a job that learned from others tells: on the screen, in the report, to MLflow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.report import write_report
from cli.screens import lines_of
from fedloom.tracking import vocabulary


@pytest.fixture
def told(shop: Any, line: Any) -> Any:
    """A job that chose among two models; one more could not be used."""
    shop.model("good", line(3.0))
    shop.model("bad", line(-3.0))
    shop.model("<large>".strip("<>"), line(3.0, hidden=7))
    sources = [{"model": name} for name in ("bad", "large", "good")]
    assert shop.run({"from": sources}, rounds=1).phase == "Succeeded"
    return shop


def test_the_screen_shows_choice_scores_and_what_could_not_be_used(told: Any) -> None:
    (event,) = (event for event in told.events if event["event"] == "transfer")
    lines = lines_of(event)
    assert lines[0].startswith("begins with model/good  BestLoss: model/good has loss ")
    assert any("probe  scratch  loss" in line for line in lines)
    assert any("model/large: SourceMismatch: " in line and "body.w" in line for line in lines)
    assert json.dumps(event, allow_nan=False)


def test_the_report_has_a_section_of_it_and_other_jobs_have_none(told: Any) -> None:
    page = told.folder / "page.html"
    write_report(told.folder / "state" / "target", page)
    html = page.read_text()
    assert "Learning from other jobs" in html
    for words in ("model/good", "scratch", "SourceMismatch", "could not be used", "The probe sent"):
        assert words in html
    told.run(None, "plain")
    write_report(told.folder / "state" / "plain", page)
    assert "Learning from other jobs" not in page.read_text()


def test_a_damaged_beginning_spoils_no_report(told: Any) -> None:
    (path,) = told.folder.glob("state/target/artifacts/*/*/round-0000/result.json")
    result = json.loads(path.read_bytes())
    result["transfer"] = {"scores": [None, {"loss": "x"}], "source": 7, "choice": "<script>"}
    path.write_text(json.dumps(result, sort_keys=True))
    page = told.folder / "page.html"
    write_report(told.folder / "state" / "target", page)
    assert "<script>" not in page.read_text()


def test_mlflow_is_told_of_choice_and_origin_in_the_run_and_with_every_model(told: Any) -> None:
    tags = vocabulary.transfer_tags(told.result(0))
    assert tags["transfer.choice"] == tags["transfer.source"] == "model/good"
    assert tags["transfer.reason"] == "BestLoss"
    assert tags["transfer.source-digest"].startswith("sha256:")
    assert next(e["candidate"] for e in json.loads(tags["transfer.scores"])) == "model/good"
    assert vocabulary.transfer_tags(told.result(1)) == {}
    lineage = vocabulary.lineage_tags(told.result(1)["lineage"])
    assert lineage["transfer.source"] == "model/good"
    assert vocabulary.lineage_tags(None) == {}
