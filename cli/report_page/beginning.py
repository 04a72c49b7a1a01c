"""The section on what a job that learns from others begins with: choice, reason, origin, scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.report_page.facts import Run
from cli.report_page.section import note, section, table
from cli.report_page.values import count, mapping, number, words
from cli.report_page.wording import NONE, bytes_text, count_text, number_text, text

_MOST_ROWS = 20
_ORIGIN = (
    ("job", "job"),
    ("registered_model", "registered model"),
    ("version", "version"),
    ("run_id", "MLflow run"),
    ("uri", "file"),
    ("digest", "digest"),
)


def beginning_section(run: Run) -> str:
    """Nothing for a job that began by itself."""
    found = run.beginning
    if not found:
        return ""
    traffic = mapping(found.get("traffic"))
    up, down = (bytes_text(count(traffic.get(f"{way}link_bytes"))) for way in ("up", "down"))
    scores = _entries(found.get("scores"))
    parts = [
        f"<p><b>{text(found.get('choice'), 200)}</b>: {text(found.get('message'), 600)}</p>",
        _origin(mapping(found.get("source"))),
        _scores(scores) if scores else "",
        note(f"The probe sent {down} down and {up} up, before the first round." if scores else ""),
        note(_epsilon(found)),
        _unusable(_entries(found.get("unusable"))),
    ]
    return section("Learning from other jobs", *parts)


def _entries(value: Any) -> list[Mapping[str, Any]]:
    return [mapping(each) for each in value[:_MOST_ROWS]] if isinstance(value, list) else []


def _origin(source: Mapping[str, Any]) -> str:
    told = [f"{name} {words(source.get(key))}" for key, name in _ORIGIN if words(source.get(key))]
    return note(f"From {', '.join(told)}." if told else "")


def _scores(scores: list[Mapping[str, Any]]) -> str:
    head = [("", "candidate"), ("", "kind"), ("count", "loss"), ("count", "± to scratch")]
    rows = [
        [
            ("name", text(words(each.get("candidate")), 80)),
            ("word", text(words(each.get("kind")), 20)),
            ("count", number_text(number(each.get("loss")))),
            ("count", number_text(number(each.get("standard_error")))),
            ("count", _samples(each)),
        ]
        for each in scores
    ]
    return table([*head, ("count", "samples")], rows)


def _samples(score: Mapping[str, Any]) -> str:
    samples = count(score.get("samples"))
    return NONE if samples is None else count_text(samples)


def _epsilon(found: Mapping[str, Any]) -> str:
    epsilon = number(found.get("epsilon"))
    return "" if epsilon is None else f"The probe alone revealed epsilon {epsilon:.4g}."


def _unusable(entries: list[Mapping[str, Any]]) -> str:
    if not entries:
        return ""
    head = [("", "could not be used"), ("", "reason"), ("", "message")]
    rows = [
        [
            ("name", text(words(each.get("name")), 80)),
            ("word", text(words(each.get("reason")), 40)),
            ("words", text(words(each.get("message")), 300)),
        ]
        for each in entries
    ]
    return table(head, rows)
