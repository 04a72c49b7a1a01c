"""Sources that cannot be used: a reason that names what is wrong, and scratch where the user allowed it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

WARM = {"mode": "warmStart"}


def broken(shop: Any, line: Any, how: str) -> dict[str, Any]:
    """Make a source that is wrong in one way, and give its entry of `from`."""
    good = line(3.0)
    if how == "gone":
        shop.model("known", good).unlink()
    elif how == "no file":
        shop.model("known", good).write_bytes(b"junk")
    elif how == "nan":
        shop.model("known", good | {"head.w": np.full((4, 1), np.nan, np.float32)})
    elif how == "infinite":
        shop.model("known", good | {"body.w": np.full((1, 4), np.inf, np.float32)})
    elif how == "shape":
        shop.model("known", line(3.0, hidden=7))
    elif how == "names":
        shop.model("known", {"other.w": good["body.w"], "head.w": good["head.w"]})
    elif how == "dtypes":
        shop.model("known", line(3.0, dtype=np.float64))
    elif how == "far":
        shop.model("known", good, namespace="other")
        return {"model": "known", "namespace": "other"}
    elif how == "no job":
        return {"job": "nobody"}
    elif how == "no registry":
        return {"registeredModel": "nothing"}
    return {"model": "known"}


CASES = {
    "gone": ("SourceNotFound", "there is no file"),
    "no file": ("SourceDamaged", "cannot be read"),
    "nan": ("SourceNotFinite", "'head.w'"),
    "infinite": ("SourceNotFinite", "'body.w'"),
    "shape": ("SourceMismatch", "body.w: got shape [1, 7], expected [1, 4]"),
    "names": ("SourceMismatch", "other.w"),
    "dtypes": ("SourceDtypes", "float64"),
    "far": ("SourceNotAllowed", "fedloom.io/transfer-to"),
    "no job": ("SourceNotFound", "run it first"),
}


@pytest.mark.parametrize("how", CASES)
def test_a_job_whose_only_source_cannot_be_used_fails_and_says_why(
    shop: Any, line: Any, how: str
) -> None:
    decision = shop.run({**WARM, "from": [broken(shop, line, how)]})
    reason, words = CASES[how]
    assert (decision.phase, decision.reason) == ("Failed", reason), decision
    assert words in decision.message


@pytest.mark.parametrize("how", ["gone", "nan", "no registry"])
def test_where_the_user_allowed_it_the_job_begins_from_scratch(
    shop: Any, line: Any, how: str
) -> None:
    source = broken(shop, line, how)
    decision = shop.run({**WARM, "from": [source], "fallback": "scratch"})
    assert decision.phase == "Succeeded", decision
    begun = shop.beginning
    assert (begun["choice"], begun["source"]) == ("scratch", None)
    reason = "SourceNotFound" if how != "nan" else "SourceNotFinite"
    assert begun["reason"] == begun["unusable"][0]["reason"] == reason


def test_a_probe_leaves_out_what_it_cannot_use_and_says_so(shop: Any, line: Any) -> None:
    shop.model("good", line(3.0))
    shop.model("far", line(3.0), namespace="other")
    shop.model("allowed", line(2.0), namespace="other", annotations={"fedloom.io/transfer-to": "*"})
    shop.model("large", line(3.0, hidden=7))
    shop.model("nan", line(np.nan))
    sources = [{"model": name} for name in ("large", "nan", "good")]
    sources += [{"model": name, "namespace": "other"} for name in ("far", "allowed")]
    assert shop.run({"from": sources}).phase == "Succeeded"
    begun = shop.beginning
    assert begun["choice"] == "model/good"
    assert {each["name"]: each["reason"] for each in begun["unusable"]} == {
        "model/large": "SourceMismatch",
        "model/nan": "SourceNotFinite",
        "model/other/far": "SourceNotAllowed",
    }
    assert {score["candidate"] for score in begun["scores"]} == {
        "scratch",
        "model/good",
        "model/other/allowed",
    }


def test_of_many_sources_five_are_probed(shop: Any, line: Any) -> None:
    for number in range(8):
        shop.model(f"m{number}", line(-1.0 - number))
    shop.model("best", line(3.0))
    names = ["best", *(f"m{number}" for number in range(8))]
    assert shop.run({"from": [{"model": name} for name in names]}).phase == "Succeeded"
    begun = shop.beginning
    assert begun["choice"] == "model/best"
    assert len(begun["scores"]) == 6
    assert [each["reason"] for each in begun["unusable"]] == ["TooManySources"] * 4


def test_a_source_that_vanishes_between_probe_and_start_changes_nothing(
    shop: Any, line: Any
) -> None:
    path = shop.model("good", line(3.0))
    shop.script = shop.script.replace(
        "def evaluate(self, model, context):",
        f"def evaluate(self, model, context):\n        import os\n"
        f"        os.path.exists({str(path)!r}) and os.unlink({str(path)!r})",
    )
    assert shop.run({"from": [{"model": "good"}]}).phase == "Succeeded"
    assert not path.exists()
    assert shop.beginning["choice"] == "model/good"
    np.testing.assert_array_equal(shop.first_model()["head.w"], line(3.0)["head.w"])


def test_a_source_that_is_another_file_than_was_found_is_refused(shop: Any, line: Any) -> None:
    shop.run(None, "teacher")
    (path,) = (shop.folder / "state" / "teacher").glob("artifacts/*/*/round-0001/model.safetensors")
    path.write_bytes(path.read_bytes().replace(b"\x00\x00\x00\x00", b"\x01\x00\x00\x00"))
    decision = shop.run({**WARM, "from": [{"job": "teacher"}]})
    assert (decision.phase, decision.reason) == ("Failed", "SourceUnreadable"), decision
