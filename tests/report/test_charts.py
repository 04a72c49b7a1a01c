"""Charts are plain functions from data to SVG: well-formed, inside their frame, honest about gaps."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from cli.report_page.bar_chart import MOST_BARS, Bars, Part, bar_chart, small_bar
from cli.report_page.facts import RoundSteps, Span
from cli.report_page.line_chart import MOST_POINTS, Line, Mark, line_chart
from cli.report_page.timeline import MOST_LANES, outside, slowest_lanes, steps_in, timeline
from cli.report_page.wording import bytes_text


def drawn(markup: str) -> ElementTree.Element:
    """Parse a chart and check that nothing in it lies outside of its frame."""
    root = ElementTree.fromstring(markup)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for element in root.iter():
        for name, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= most, element.attrib
        for name in ("width", "height"):
            if name in element.attrib and element is not root:
                assert float(element.attrib[name]) >= 0
    assert "nan" not in markup.replace("no values", "")
    assert "inf" not in markup
    return root


def with_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [e for e in root.iter() if name in e.attrib.get("class", "").split()]


def titles(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter("title")]


def labels(root: ElementTree.Element) -> list[str]:
    return [element.text for element in root.iter("text")]


def runs(root: ElementTree.Element) -> int:
    """How many connected pieces the lines have."""
    return sum(path.attrib["d"].count("M") for path in with_class(root, "line"))


def test_a_line_has_labelled_axes_dots_and_its_values_to_hover():
    root = drawn(line_chart([Line("evaluation", [(1, 0.2), (2, 0.6), (3, 0.9)])], (1, 3)))
    assert labels(root) == ["0.2", "0.4", "0.6", "0.8", "1.0", "1", "2", "3", "round"]
    assert len(with_class(root, "dot")) == 3
    assert runs(root) == 1
    assert "round 2: evaluation 0.6000" in titles(root)


def test_higher_values_are_drawn_higher():
    root = drawn(line_chart([Line("e", [(1, 0.0), (2, 1.0)])], (1, 2)))
    low, high = (float(dot.attrib["cy"]) for dot in with_class(root, "dot"))
    assert high < low


def test_two_lines_share_one_axis_and_the_second_is_dashed():
    lines = [Line("evaluation", [(1, 1.0), (2, 2.0)]), Line("clients", [(1, 9.0)], is_dashed=True)]
    root = drawn(line_chart(lines, (1, 2)))
    assert "10" in labels(root)
    assert len(with_class(root, "dashed")) == 1
    assert "round 1: evaluation 1.0000, clients 9.0000" in titles(root)


@pytest.mark.parametrize("points", [[], [(1, None)], [(1, math.nan), (2, math.inf)]])
def test_a_chart_without_values_says_so(points):
    root = drawn(line_chart([Line("e", points)], (1, 2)))
    assert "no values" in labels(root)
    assert runs(root) == 0


def test_no_lines_at_all_still_give_axes():
    assert "no values" in labels(drawn(line_chart([], (1, 1))))


def test_one_point_is_a_dot_in_the_middle():
    root = drawn(line_chart([Line("e", [(1, 0.5)])], (1, 1)))
    assert len(with_class(root, "dot")) == 1
    assert runs(root) == 1


def test_a_constant_line_is_level_and_inside():
    root = drawn(line_chart([Line("e", [(n, 0.25) for n in range(1, 9)])], (1, 8)))
    assert len({dot.attrib["cy"] for dot in with_class(root, "dot")}) == 1


@pytest.mark.parametrize("gap", [None, math.nan, math.inf, -math.inf])
def test_a_missing_value_breaks_the_line(gap):
    points = [(1, 0.1), (2, 0.2), (3, gap), (4, 0.4), (5, gap), (6, 0.6)]
    root = drawn(line_chart([Line("e", points)], (1, 6)))
    assert runs(root) == 3
    assert len(with_class(root, "dot")) == 4


def test_values_of_any_size_stay_inside():
    points = [(1, -1.7e308), (2, 1.7e308), (3, 5e-324), (4, 0.0)]
    drawn(line_chart([Line("e", points)], (1, 4)))


def test_failed_attempts_are_crosses_that_say_why():
    marks = [Mark(2, "round 2, attempt 1 failed: TooFewClients: <b>")]
    root = drawn(line_chart([Line("e", [(1, 0.5), (3, 0.6)])], (1, 3), marks))
    assert len(with_class(root, "cross")) == 1
    assert marks[0].title in titles(root)


def test_a_long_line_is_thinned_and_stays_small():
    line = Line("e", [(n, math.sin(n)) for n in range(1, 10_001)])
    markup = line_chart([line], (1, 10_000))
    (path,) = with_class(drawn(markup), "line")
    assert len(re.findall("[ML]", path.attrib["d"])) <= MOST_POINTS
    assert len(markup) < 60_000


def test_names_are_escaped_in_every_chart():
    name = "</svg><script>alert('x')</script>"
    steps = [RoundSteps(1, 0.0, 1.0, (Span(name, name, 0.0, 0.5),))]
    part = Part(name, "up", [1.0])
    for markup in (
        line_chart([Line(name, [(1, 1.0)])], (1, 1), [Mark(1, name)], name),
        bar_chart(Bars(1, [part], 1.0, bytes_text), name),
        timeline(steps, [name], name),
    ):
        drawn(markup)
        assert "<script" not in markup


def test_bars_are_stacked_from_zero():
    parts = [Part("up", "up", [1000.0, 0.0]), Part("down", "down", [3000.0, 4000.0])]
    root = drawn(bar_chart(Bars(1, parts, 1000.0, bytes_text)))
    assert labels(root)[:5] == ["0", "1", "2", "3", "4"]
    (up,) = with_class(root, "up")
    first, second = with_class(root, "down")
    assert float(first.attrib["y"]) + float(first.attrib["height"]) == pytest.approx(
        float(up.attrib["y"]), abs=0.11
    )
    assert 3 * float(up.attrib["height"]) == pytest.approx(float(first.attrib["height"]), abs=0.3)
    assert first.attrib["y"] == second.attrib["y"]
    assert "round 1: up 1.0 KB, down 3.0 KB" in titles(root)


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0]])
def test_bars_of_nothing_are_an_empty_plot(values):
    root = drawn(bar_chart(Bars(1, [Part("up", "up", values)], 1.0, bytes_text)))
    assert with_class(root, "up") == []


def test_many_rounds_share_bars_that_are_their_mean():
    values = [float(n) for n in range(1000)]
    root = drawn(bar_chart(Bars(1, [Part("up", "up", values)], 1.0, bytes_text)))
    stacks = with_class(root, "stack")
    assert 60 <= len(stacks) <= MOST_BARS
    assert titles(root)[0] == "rounds 1 to 9: up 4 B on average"
    assert titles(root)[-1].startswith("round 1000:")


@pytest.mark.parametrize(
    ("value", "most", "width"), [(5, 10, 50), (None, 10, 0), (0, 0, 0), (20, 10, 100)]
)
def test_a_small_bar_is_a_part_of_the_largest(value, most, width):
    _, bar = ElementTree.fromstring(small_bar(value, most)).iter("rect")
    assert float(bar.attrib["width"]) == width


def test_a_timeline_puts_rounds_after_each_other_without_the_pause_between():
    first = RoundSteps(1, 0.0, 10.0, (Span("a", "train", 0.0, 10.0),))
    later = RoundSteps(2, 5000.0, 5010.0, (Span("a", "train", 5000.0, 5010.0),))
    root = drawn(timeline([first, later], ["a"]))
    one, two = with_class(root, "s0")
    end = float(one.attrib["x"]) + float(one.attrib["width"])
    assert float(two.attrib["x"]) == pytest.approx(end, abs=0.2)
    assert "round 2, a: train 10.00 s" in titles(root)
    assert "seconds" in labels(root)


def test_every_client_has_a_lane_and_the_server_the_last():
    spans = (
        Span("a", "train", 0.0, 0.5),
        Span("b", "train", 0.0, 0.4),
        Span(None, "aggregate", 0.5, 1),
    )
    root = drawn(timeline([RoundSteps(1, 0.0, 1.0, spans)], ["a", "b"]))
    y = [float(bar.attrib["y"]) for bar in (*with_class(root, "s0"), *with_class(root, "s2"))]
    assert y == sorted(set(y))


def test_a_step_outside_of_its_round_is_counted_and_not_drawn():
    stray = Span("a", "train", 0.0, 0.5)
    steps = [RoundSteps(1, 1_000_000.0, 1_000_001.0, (stray,))]
    assert outside(steps) == 1
    assert with_class(drawn(timeline(steps, ["a"])), "s0") == []


def test_an_empty_timeline_is_drawn():
    drawn(timeline([], []))


def test_the_slowest_lanes_are_kept():
    spans = tuple(Span(f"c{n}", "train", 0.0, n / 100) for n in range(1, 100))
    lanes = slowest_lanes([RoundSteps(1, 0.0, 1.0, spans)])
    assert len(lanes) == MOST_LANES
    assert lanes[0] == "c99"


def test_unknown_steps_come_last():
    spans = (Span("a", "zip", 0, 1), Span("a", "train", 0, 1), Span(None, "aggregate", 0, 1))
    assert steps_in([RoundSteps(1, 0.0, 1.0, spans)]) == ["train", "aggregate", "zip"]
