"""What a codec sees as one tensor: every tensor by itself, or all that it may take behind one another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.algorithms.compression.packing import Packing, is_encoded
from fedloom.algorithms.compression.registry import CODECS, codec
from fedloom.algorithms.layout import TensorSpec, layout_of

DTYPES = st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u2", "?"])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
LAYOUTS = st.dictionaries(st.text(max_size=3), st.tuples(SHAPES, DTYPES), max_size=8)


def deltas_of(layout: dict[str, tuple[tuple[int, ...], str]]) -> dict[str, np.ndarray]:
    """Deltas as a client makes them of such a model: float32 where the sums are, else float64."""
    rng = np.random.default_rng(len(layout))
    return {
        name: np.asarray(rng.normal(size=shape), "f4" if kind in ("f2", "f4") else "f8")
        for name, (shape, kind) in layout.items()
    }


@pytest.mark.parametrize("name", CODECS)
def test_codecs_that_choose_values_are_those_that_see_all_of_them(name):
    assert codec(name, {}).is_whole is (name in ("topk", "stc", "dgc"))


@given(LAYOUTS, st.sampled_from(["int8", "stc"]))
def test_every_element_has_one_place_and_comes_back_from_it(layout, name):
    deltas, made = deltas_of(layout), codec(name, {})
    packing = Packing(made, layout_of(deltas))
    assert [unit.name for unit in packing.units] == sorted(unit.name for unit in packing.units)
    back: dict[str, np.ndarray] = {}
    for unit in packing.units:
        packed = packing.pack(unit, deltas)
        assert packed.shape == unit.shape
        for tensor in unit.tensors:
            place, offset = packing.place(tensor)
            assert place == unit
            stretch = packed.reshape(-1)[offset : offset + deltas[tensor].size]
            assert stretch.tobytes() == deltas[tensor].tobytes()
        back |= packing.unpack(unit, packed, layout_of(deltas))
    assert back.keys() == deltas.keys()
    for tensor, delta in deltas.items():
        np.testing.assert_array_equal(back[tensor], delta, strict=True)


@given(LAYOUTS)
def test_the_model_s_layout_gives_the_units_of_its_deltas(layout):
    specs = {name: TensorSpec(shape, np.dtype(kind)) for name, (shape, kind) in layout.items()}
    for name in ("int8", "topk"):
        of_model = Packing(codec(name, {}), specs)
        assert of_model.units == Packing(codec(name, {}), layout_of(deltas_of(layout))).units


@given(LAYOUTS)
def test_one_unit_holds_all_that_goes_through_a_codec_that_is_whole(layout):
    specs = {name: TensorSpec(shape, np.dtype(kind)) for name, (shape, kind) in layout.items()}
    encoded = sorted(name for name, spec in specs.items() if is_encoded(spec))
    units = Packing(codec("stc", {}), specs).units
    wholes = [unit for unit in units if unit.is_encoded]
    if encoded:
        (whole,) = wholes
        assert whole.tensors == tuple(encoded)
        assert whole.shape == (sum(specs[name].size for name in encoded),)
    else:
        assert not wholes
    alone = [unit for unit in units if not unit.is_encoded]
    assert sorted(unit.name for unit in alone) == sorted(specs.keys() - set(encoded))
    assert all(unit.shape == specs[unit.name].shape for unit in alone)
