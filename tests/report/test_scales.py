"""Axes have round ticks around their values, whatever the values; long lines keep their extremes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.report_page.scales import Scale, thin_out, value_axis, whole_ticks
from cli.report_page.wording import tick_text

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TICKS = {
    "fractions": ([0.13, 0.94], ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    "narrow": ([0.912, 0.947], ["0.91", "0.92", "0.93", "0.94", "0.95"]),
    "negative": ([-3.0, 1.5], ["-3", "-2", "-1", "0", "1", "2"]),
    "thousands": ([0.0, 7300.0], ["0", "2,000", "4,000", "6,000", "8,000"]),
    "large": ([0.0, 4.1e9], ["0", "1e9", "2e9", "3e9", "4e9", "5e9"]),
    "small": ([0.0, 3e-6], ["0", "1e-6", "2e-6", "3e-6"]),
    "one-value": ([5.0], ["4.4", "4.6", "4.8", "5.0", "5.2", "5.4", "5.6"]),
    "nothing": ([], ["0", "0.5", "1.0"]),
    "no-numbers": ([math.nan, math.inf], ["0", "0.5", "1.0"]),
}


@pytest.mark.parametrize(("values", "expected"), TICKS.values(), ids=TICKS)
def test_ticks_are_round_and_enclose_the_values(values, expected):
    axis = value_axis(values)
    assert [tick_text(tick, axis.step) for tick in axis.ticks] == expected


@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_any_values_get_a_few_distinct_ticks_around_them(values):
    axis = value_axis(values)
    assert 2 <= len(axis.ticks) <= 12
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert all(map(math.isfinite, axis.ticks))
    clamped = [min(max(value, -1e300), 1e300) for value in values]
    slack = 1e-6 * axis.step
    assert axis.low <= min(clamped) + slack
    assert axis.high >= max(clamped) - slack
    labels = [tick_text(tick, axis.step) for tick in axis.ticks]
    assert len(set(labels)) == len(labels)


@given(FLOATS, FLOATS, FLOATS)
def test_no_value_leaves_the_drawing(low, high, value):
    axis = value_axis([low, high])
    scale = Scale(axis.low, axis.high, 10.0, 200.0)
    assert 10.0 <= scale.place(value) <= 200.0


def test_a_scale_of_one_value_puts_it_in_the_middle():
    assert Scale(3, 3, 0, 100).place(3) == 50


@given(st.integers(0, 100_000), st.integers(0, 100_000))
def test_rounds_get_a_few_whole_ticks(low, more):
    ticks = whole_ticks(low, low + more)
    assert 1 <= len(ticks) <= 12
    assert low <= ticks[0] <= ticks[-1] <= low + more
    assert ticks == sorted(set(ticks))


def test_the_first_round_is_named_where_there_is_room():
    assert whole_ticks(1, 20) == [1, 5, 10, 15, 20]
    assert whole_ticks(1, 1) == [1]
    assert whole_ticks(1, 6) == [1, 2, 3, 4, 5, 6]


def test_short_lines_are_kept_as_they_are():
    points = [(1.0, 2.0), (2.0, None), (3.0, 4.0)]
    assert thin_out(points, 3) == points


@given(st.lists(st.none() | FLOATS, min_size=50, max_size=400))
def test_a_thinned_line_is_short_ordered_and_keeps_its_extremes(values):
    points = [(float(x), y) for x, y in enumerate(values)]
    kept = thin_out(points, 40)
    assert len(kept) <= 40
    assert [x for x, _ in kept] == sorted({x for x, _ in kept})
    assert set(kept) <= set(points)
    known = [y for y in values if y is not None]
    if known:
        assert {min(known), max(known)} <= {y for _, y in kept}


def test_a_long_gap_stays_a_gap():
    points = [(float(x), None if 100 <= x < 200 else 1.0) for x in range(300)]
    assert any(y is None for _, y in thin_out(points, 30))
