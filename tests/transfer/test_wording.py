"""What of spec.transfer is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from fedloom.api.documents import read_documents
from fedloom.api.validation import validate
from fedloom.errors import InvalidJobError

A = {"job": "a"}
MASKS = {"secureAggregation": True, "clipNorm": 1.0}
NOISE = {"noiseMultiplier": 1.0, "clipNorm": 1.0}

TABLE: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "nothing in it": ({}, {}, "spec.transfer", "expected mode and from, an anchor, or"),
    "no source": ({"mode": "body"}, {}, "from", "got nothing, expected a source of body"),
    "two": ({"mode": "body", "from": [A, {"job": "b"}]}, {}, "from", "auto finds out"),
    "no way": ({"from": [{}]}, {}, "from[0]", "got none of them, expected exactly one of"),
    "two ways": ({"from": [{**A, "model": "m"}]}, {}, "from[0]", "got model and job, expected"),
    "version": ({"from": [{**A, "version": "1"}]}, {}, "from[0].version", "registeredModel"),
    "both": (
        {"from": [{"registeredModel": "r", "version": "1", "alias": "x"}]},
        {},
        "from[0].alias",
        "one of the two",
    ),
    "start": ({"from": [{"uri": "/m", "start": True}]}, {}, "from[0].start", "with job"),
    "scheme": ({"from": [{"uri": "ftp://h/m"}]}, {}, "from[0].uri", "expected s3://"),
    "registry": ({"mode": "warmStart", "from": [{"registry": {}}]}, {}, "registry", "mode auto"),
    "frozen": ({"mode": "warmStart", "from": [A], "freeze": True}, {}, "freeze", "mode body"),
    "ditto": (
        {"anchor": {"kind": "ditto"}, "personalize": "finetune"},
        {},
        "personalize",
        "both are own models",
    ),
    "head": ({"personalize": "body"}, {}, "head", "expected the arrays that every client keeps"),
    "masks": ({"from": [A]}, {"privacy": MASKS}, "mode", "each client's own losses"),
    "local": (
        {"from": [A]},
        {"privacy": {"local": {"mechanism": "gaussian", "epsilon": 1.0}}},
        "mode",
        "without noise",
    ),
    "bound": ({"from": [A]}, {"privacy": NOISE}, "bound", "needs a bound"),
    "heads, noise": (
        {"from": [A], "bound": 1.0, "probe": "heads"},
        {"privacy": NOISE, "hyperparameters": {"epochs": 1}},
        "probe",
        "without noise",
    ),
    "heads, epochs": ({"from": [A], "probe": "heads"}, {}, "probe", "none of epochs"),
    "heads, mode": (
        {"mode": "body", "from": [A], "probe": "heads"},
        {"hyperparameters": {"epochs": 1}},
        "probe",
        "with mode auto",
    ),
    "no noise": ({"from": [A], "bound": 1.0}, {"privacy": MASKS}, "mode", "losses"),
}


@pytest.mark.parametrize("case", TABLE)
def test_it_is_refused_with_field_and_reason(shop: Any, case: str) -> None:
    transfer, fields, field, words = TABLE[case]
    spec = {**shop.spec(None, **fields), "transfer": transfer}
    try:
        problems = list(validate(read_documents([shop.write(("target", spec))])))
    except InvalidJobError as error:
        problems = list(error.problems)
    found = {each.field.rpartition(" ")[2]: each.message for each in problems}
    path = field if field.startswith("spec") else f"spec.transfer.{field}"
    path = path.replace("spec.transfer.registry", "spec.transfer.from[0].registry")
    assert words in found[path], found


def test_a_source_among_models_must_be_there_unless_scratch_is_allowed(shop: Any) -> None:
    for fallback, expected in ((None, 1), ("scratch", 0)):
        transfer = {"from": [{"model": "nobody"}], **({"fallback": fallback} if fallback else {})}
        problems = validate(read_documents([shop.write(("target", shop.spec(transfer)))]))
        assert len(problems) == expected, problems


def test_what_is_left_out_is_the_safe_choice(shop: Any) -> None:
    from fedloom.api.defaults import with_defaults

    for transfer, expected in (
        ({"from": [A]}, ("auto", "scratch")),
        ({"mode": "warmStart", "from": [A]}, ("warmStart", "fail")),
        ({"anchor": {"mu": 0.5}}, (None, None)),
    ):
        (job,) = read_documents([shop.write(("target", shop.spec(transfer)))]).jobs
        found = with_defaults(job).spec.transfer
        assert found is not None
        assert (found.mode, found.fallback) == expected
