"""Values in YAML read as Kubernetes reads them; aliases may share, but not multiply."""

from __future__ import annotations

import pytest

from fedloom.api.documents import render_documents
from fedloom.errors import InvalidJobError


@pytest.mark.parametrize(
    "levels",
    [
        pytest.param("[*a{0}, *a{0}, *a{0}, *a{0}]", id="lists"),
        pytest.param("{{<<: [*a{0}, *a{0}, *a{0}, *a{0}]}}", id="merges"),
        pytest.param("{{b: *a{0}, c: *a{0}, d: *a{0}, e: *a{0}}}", id="mappings"),
    ],
)
def test_aliases_that_multiply_are_refused(read, levels):
    lines = ["a0: &a0 {x: 1}"] + [
        f"a{level + 1}: &a{level + 1} {levels.format(level)}" for level in range(40)
    ]
    with pytest.raises(InvalidJobError, match="aliases multiply"):
        read("\n".join(lines))


def test_a_template_may_be_shared_by_alias_and_merge(read, job_document, other_documents):
    text = render_documents([job_document(trainingWorkers=None), *other_documents])
    head, tail = text.split("---\n", 1)
    head += """\
  trainingWorkers:
  - dataset: {name: ward-a}
    template: &template {spec: &spec {containers: [{name: train, image: one}], nodeName: a}}
  - dataset: {name: ward-b}
    template: *template
  - dataset: {name: ward-c}
    template: {spec: {<<: *spec, nodeName: c}}
"""
    (job,) = read(head + "---\n" + tail).jobs
    workers = [worker.template for worker in job.spec.training_workers]
    assert [template.image for template in workers] == ["one"] * 3
    assert [template.node_name for template in workers] == ["a", "a", "c"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("-3", -3),
        ("0x10", 16),
        ("0o17", 15),
        ("017", 15),
        ("1_000", 1000),
        ("true", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("2026-01-01", "2026-01-01"),
        ("12:30:45", "12:30:45"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ("!!float 5", 5.0),
        ("!!int '5'", 5),
        ("!!map {a: !!seq [1]}", {"a": [1]}),
        ("{b: &n a, *n : 2}", {"b": "a", "a": 2}),
        ("{&n c: *n }", {"c": "c"}),
        ("v1.2", "v1.2"),
        ("089", "089"),
        ("1e", "1e"),
    ],
)
def test_scalars_read_as_kubernetes_reads_them(read, job_document, text, value):
    document = render_documents([job_document()]) + "  hyperparameters:\n    x: " + text + "\n"
    read_value = read(document).jobs[0].spec.hyperparameters["x"]
    assert read_value == value
    assert type(read_value) is type(value)


def test_names_are_text_as_written(read, job_document):
    text = render_documents([job_document()]) + "  hyperparameters: {1: a, on: b, 0x1: c}\n"
    assert read(text).jobs[0].spec.hyperparameters == {"1": "a", "on": "b", "0x1": "c"}


@pytest.mark.parametrize("number", [".nan", ".inf", "-.INF", "1e999"])
def test_numbers_that_json_cannot_write_are_refused_where_they_stand(read, job_document, number):
    text = render_documents([job_document()]) + f"  rounds: {number}\n"
    with pytest.raises(
        InvalidJobError, match=r"Job/digits spec.rounds: got .*, expected an integer"
    ):
        read(text)
