"""Values are written so that a person can read them, and no text leaves its place."""

from __future__ import annotations

import html
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.report_page.wording import (
    bytes_text,
    moment_text,
    natural_order,
    number_text,
    plural,
    seconds_text,
    text,
)


@given(st.text(max_size=100))
def test_any_text_is_escaped_and_can_be_written(value):
    written = text(value)
    assert not set(written) & set("<>\"'")
    written.encode()
    assert html.unescape(written).isprintable() or any(not c.isprintable() for c in value)


def test_marks_that_turn_a_line_around_are_made_visible():
    assert text("a\u202eb\x00c\ud800d") == "a\ufffdb\ufffdc\ufffdd"
    assert text("one\ntwo") == "one two"


def test_long_text_is_cut_before_it_is_escaped():
    assert text("<" * 10, 4) == "&lt;&lt;&lt;…"


WRITTEN = [
    (number_text, 0.94722, "0.9472"),
    (number_text, 12345.678, "12,345.7"),
    (number_text, 1.5e-7, "1.500e-7"),
    (number_text, 0, "0.0000"),
    (number_text, math.nan, "\u2013"),
    (number_text, None, "\u2013"),
    (bytes_text, 3_217_000, "3.2 MB"),
    (seconds_text, 0.0021, "2.1 ms"),
    (seconds_text, 0.25, "250 ms"),
    (seconds_text, 3.456, "3.46 s"),
    (seconds_text, 125, "2 min 5 s"),
    (seconds_text, 7505, "2 h 5 min"),
    (seconds_text, None, "\u2013"),
    (moment_text, 0, "1970-01-01 00:00:00 UTC"),
    (moment_text, 1e300, "\u2013"),
    (moment_text, None, "\u2013"),
]


@pytest.mark.parametrize(("write", "value", "expected"), WRITTEN)
def test_values_are_written_with_their_unit(write, value, expected):
    assert write(value) == expected


def test_one_is_singular():
    assert (plural(1, "round"), plural(2000, "round")) == ("1 round", "2,000 rounds")


@given(st.lists(st.text(max_size=8)))
def test_any_names_can_be_sorted(names):
    sorted(names, key=natural_order)


def test_client_2_comes_before_client_10():
    names = ["client-10", "client-2", "client-1", "b"]
    assert sorted(names, key=natural_order) == ["b", "client-1", "client-2", "client-10"]
