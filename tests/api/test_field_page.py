"""The page that tells every field of a job to people."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedloom.api.crd import crds
from fedloom.api.field_page import page

PAGE = Path(__file__).resolve().parents[2] / "docs/fields.md"


def descriptions(schema: dict[str, Any]) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        if name == "template":
            continue  # a pod's fields are Kubernetes' own
        yield child["description"].replace("|", "\\|")
        yield from descriptions(child.get("items", child))


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == page(), "stale: run `make crds`"


def test_every_field_is_told() -> None:
    told = page()
    for crd in crds().values():
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            for description in descriptions(schema["properties"][part]):
                assert description in told


def test_a_field_is_told_with_its_default_range_and_choices() -> None:
    rows = page().splitlines()
    (deadline,) = (row for row in rows if row.startswith("| `deadlineSeconds` |"))
    assert "Range: more than 0 to 31536000. Default: `600`." in deadline
    (policy,) = (row for row in rows if row.startswith("| `savePolicy` |"))
    assert "One of `last`, `best`, `every`." in policy
    (worker,) = (row for row in rows if row.startswith("| `trainingWorkers[]` |"))
    assert worker.endswith("*Required.* |")


def test_what_a_pod_has_is_left_to_kubernetes() -> None:
    assert "| `template` | object |" in page()
    assert "template." not in page()
