"""The search in a registry: what fits by tags and signature, best first, of any number of versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedloom.algorithms.layout import layout_of
from fedloom.algorithms.transfer.signature import tensor_signature
from fedloom.artifacts.arrays import dump_arrays
from fedloom.errors import JobError
from fedloom.tracking.registry import MOST_FOUND, MOST_OF_A_KIND, Query, find
from fedloom.tracking.signature import signature_of_file

S3 = "s3://bucket/m.safetensors"


@dataclass
class Version:
    name: str
    version: str
    tags: dict[str, str]
    creation_timestamp: int = 0
    run_id: str = "run"
    aliases: list[str] = field(default_factory=list)


@dataclass
class Registry:
    """A registry in memory; it counts what is asked of it."""

    versions: list[Version]
    address: str = "memory"
    looked: int = 0
    fetched: int = 0

    def get(self, name: str, version: str | None, alias: str | None) -> Version | None:
        found = [v for v in self.versions if v.name == name and version in (None, v.version)]
        return found[-1] if found else None

    def list(self, tags: Mapping[str, str], like: str | None) -> Iterator[Version]:
        for version in self.versions:
            self.looked += 1
            if tags.items() <= version.tags.items():
                yield version

    def fetch(self, version: Version, folder: Path) -> Path:
        self.fetched += 1
        if "weights" not in version.tags:
            raise JobError("NoWeights", "no")
        return folder / "m.safetensors"


def version(number: int, **tags: str) -> Version:
    known = {"sedna.io/digest": f"d{number}", "sedna.io/uri": S3, "sedna.io/namespace": "lab"}
    known["sedna.io/tensor-signature"] = f"s{number}"
    return Version(
        "m", str(number), known | {k.replace("_", "/"): v for k, v in tags.items()}, number
    )


ASK = Query("lab", "own")


def names(found: Mapping[str, Any]) -> list[str]:
    return [each["version"] for each in found["candidates"]]


def test_a_thousand_versions_become_a_bounded_list_newest_first(tmp_path: Path) -> None:
    registry = Registry([version(number) for number in range(5000)])
    found = find(registry, ASK, tmp_path)
    assert len(found["candidates"]) == MOST_FOUND
    assert registry.looked == 1001
    assert names(found)[:3] == ["999", "998", "997"]
    assert registry.fetched == 0


def test_of_one_signature_no_more_are_given_than_are_probed(tmp_path: Path) -> None:
    same = {"sedna.io/tensor-signature": "s"}
    versions = [version(number) for number in range(20)]
    for each in versions[:15]:
        each.tags.update(same)
    found = find(Registry(versions), ASK, tmp_path)
    kinds = [each["signature"] for each in found["candidates"]]
    assert kinds.count("s") == MOST_OF_A_KIND
    assert len(kinds) == MOST_OF_A_KIND + 5


def test_a_version_with_an_alias_comes_first_and_the_same_content_once(tmp_path: Path) -> None:
    versions = [version(number) for number in range(4)]
    versions[1].aliases = ["champion"]
    versions[3].tags["sedna.io/digest"] = "d2"
    assert names(find(Registry(versions), ASK, tmp_path)) == ["1", "3", "0"]


def test_tags_choose_and_ones_own_models_are_no_source(tmp_path: Path) -> None:
    versions = [version(1, task="digits"), version(2), version(3, task="digits")]
    versions[2].tags["sedna.io/job-uid"] = "own"
    query = Query("lab", "own", tags={"task": "digits"})
    assert names(find(Registry(versions), query, tmp_path)) == ["1"]


@pytest.mark.parametrize(("allowed", "expected"), [("", []), ("*", ["1"]), ("x, lab", ["1"])])
def test_other_namespaces_must_allow_it(tmp_path: Path, allowed: str, expected: list[str]) -> None:
    far = version(1)
    far.tags |= {"sedna.io/namespace": "far", "fedloom.io/transfer-to": allowed}
    found = find(Registry([far]), ASK, tmp_path)
    assert names(found) == expected
    assert ("allows namespace 'lab'" in found["message"]) == (not expected)


def test_what_lies_only_in_the_registry_is_fetched_of_five_at_most(tmp_path: Path) -> None:
    versions = [version(number, weights="yes") for number in range(9)]
    for each in versions:
        del each.tags["sedna.io/uri"]
    registry = Registry(versions)
    assert len(find(registry, ASK, tmp_path)["candidates"]) == 5
    assert registry.fetched == 5


def test_a_named_version_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    found = find(Registry([]), Query("lab", "own", name="m", version="9"), tmp_path)
    assert found == {"candidates": [], "message": "there is no such version of 'm' at memory"}


def test_the_signature_of_a_file_is_that_of_its_arrays(tmp_path: Path) -> None:
    dtypes = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
    arrays = {f"t{n}": np.zeros((n, 2), dtype) for n, dtype in enumerate(dtypes)}
    arrays["scalar"] = np.array(1.0, np.float32)
    path = tmp_path / "m.safetensors"
    path.write_bytes(dump_arrays(arrays))
    assert signature_of_file(path) == tensor_signature(layout_of(arrays))


def test_a_source_of_another_signature_is_not_even_fetched(shop: Any, line: Any) -> None:
    from components.request import Request
    from components.sources import load

    source = {"name": "registered/m:1", "url": "/nowhere", "signature": "sha256:other"}
    request = Request({}, 0, 1, 1, "stage", None, {}, {}, {"sources": [source]})
    with pytest.raises(JobError) as refused:
        load(request, None, 0, layout_of(line(1.0)))  # type: ignore[arg-type]
    assert refused.value.reason == "SourceMismatch"
