"""Candidates on their way down: few bytes, the models almost as they are, refused where they are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.candidates import Roster, read_candidates, write_candidates
from components.request import Place
from fedloom.algorithms.layout import layout_of
from fedloom.artifacts.local import LocalStore
from fedloom.errors import ArtifactError, UpdateError

Arrays = dict[str, np.ndarray[Any, Any]]


def model(seed: int, spread: float = 0.1, size: int = 250) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "body.w": rng.normal(0, spread, (200, size)).astype(np.float32),
        "head.w": rng.normal(0, spread, (size, 10)).astype(np.float32),
        "half": rng.normal(0, spread, 64).astype(np.float16),
        "steps": np.array([seed], np.int64),
    }


def sent(tmp_path: Path, models: dict[str, Arrays]) -> tuple[Roster, Place]:
    place = Place(LocalStore(tmp_path / "store"), *[tmp_path / "work"] * 5)
    keys = [f"slot-{slot}.safetensors" for slot in range(len(models) + 1)]
    kinds = dict.fromkeys(models, "full")
    written, base = write_candidates(models, kinds, keys, place, seed=7)
    layout = layout_of(next(iter(models.values())))
    return Roster(tuple(written.values()), base, ("head.w",), layout), place


def size_of(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())


@pytest.mark.parametrize("kin", [True, False], ids=["siblings", "strangers"])
def test_five_candidates_take_no_more_than_one_model(tmp_path: Path, kin: bool) -> None:
    models = {f"m{n}": model(n) for n in range(5)}
    if kin:
        models = {
            name: {
                k: (model(0)[k] + (v * 0.02 if v.dtype.kind == "f" else 0)).astype(v.dtype)
                for k, v in each.items()
            }
            for name, each in models.items()
        }
    roster, _ = sent(tmp_path, models)
    assert 0 < roster.bytes_down + len(roster.to_bytes()) <= size_of(models["m0"])


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_what_arrives_is_the_model_but_for_rounding_and_scratch_costs_nothing(
    tmp_path: Path, count: int
) -> None:
    models = {f"m{n}": model(n) for n in range(count)}
    roster, place = sent(tmp_path, models)
    found = read_candidates(Roster.read(roster.to_bytes()), place)
    assert sorted(found) == list(range(count + 1))
    for slot, arrays in enumerate(models.values(), start=1):
        for name, array in arrays.items():
            assert found[slot][name].dtype == array.dtype
            if array.dtype.kind == "i":
                np.testing.assert_array_equal(found[slot][name], array)
            else:
                error = np.abs(found[slot][name].astype(float) - array.astype(float)).mean()
                assert error < 0.05 * np.abs(array.astype(float)).mean() * (1 if count < 4 else 5)
    assert not found[0]["head.w"].any()
    assert found[0]["body.w"].any()


def test_the_same_candidates_are_the_same_bytes(tmp_path: Path) -> None:
    models = {f"m{n}": model(n) for n in range(3)}
    rosters = [sent(tmp_path / str(number), models)[0] for number in range(2)]
    assert rosters[0] == rosters[1]


def test_a_candidate_that_is_another_file_than_promised_is_refused(tmp_path: Path) -> None:
    roster, place = sent(tmp_path, {"m": model(1), "n": model(2)})
    wrong = replace(roster.candidates[0], digest="sha256:" + "0" * 64)
    with pytest.raises(ArtifactError):
        read_candidates(replace(roster, candidates=(wrong, *roster.candidates[1:])), place)


@given(st.binary(max_size=60) | st.sampled_from([b"{}", b"[]", b'{"candidates": [{}]}', b"null"]))
def test_a_roster_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(UpdateError):
        Roster.read(data)
