"""Whatever is given to be read, it reads or is refused: no other error, and no change of it."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedloom.api.clients import clients_of
from fedloom.api.declaration import declared_fields
from fedloom.api.defaults import with_defaults
from fedloom.api.documents import Documents, read_documents
from fedloom.api.job import FederatedLearningJob, JobSpec
from fedloom.api.reading import KINDS, read_object, read_secret, read_status
from fedloom.api.validation import validate
from fedloom.errors import InvalidJobError, Problem

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["fedavg", "int8", "topk", "best", "1", "s3://a/b"])
)
WORDS = sorted(
    {field.name for noun in (JobSpec,) for field in declared_fields(noun)}
    | {"name", "dataset", "model", "template", "spec", "containers", "codec", "parameters", "from"}
    | {"minClients", "deadlineSeconds", "threshold", "metric", "uplink", "s3", "ws", "env", "data"}
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS) | st.text(max_size=4) | st.integers(), inner, max_size=4
        )
    ),
    max_leaves=20,
)
OBJECTS = st.fixed_dictionaries(
    {
        "apiVersion": st.just("sedna.io/v1alpha1") | SCALARS,
        "kind": st.sampled_from([*KINDS, "Secret"]) | SCALARS,
        "metadata": st.just({"name": "a"}) | VALUES,
        "spec": st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6) | VALUES,
    }
)


def refused(action) -> tuple[Problem, ...]:
    """Do it; give the problems it was refused for. Any other error is the test's failure."""
    try:
        action()
    except InvalidJobError as error:
        return error.problems
    return ()


QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(OBJECTS | VALUES)
@pytest.mark.parametrize("read", [read_object, read_secret, read_status])
def test_reading_reads_or_refuses(read, document):
    before = copy.deepcopy(document)
    problems = refused(lambda: read(document))
    assert all(str(problem) for problem in problems)
    assert repr(document) == repr(before)


@QUICK
@given(st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6))
def test_a_job_that_reads_can_be_checked_and_filled_in(spec):
    template = {"spec": {"containers": [{"name": "a"}]}}
    workers = {
        "aggregationWorker": {"model": {"name": "m"}, "template": template},
        "trainingWorkers": [{"dataset": {"name": "d"}, "template": template}],
    }
    document = {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": "FederatedLearningJob",
        "metadata": {"name": "a"},
        "spec": {**workers, **spec},
    }
    try:
        job = read_object(document)
        assert isinstance(job, FederatedLearningJob)
        validate(Documents(jobs=(job,)))
        filled = with_defaults(job)
    except InvalidJobError:
        return
    assert with_defaults(filled) == filled
    assert len(clients_of(filled)) == len(job.spec.training_workers)


@QUICK
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_any_bytes_in_a_file_read_or_are_refused(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("files") / f"any.{suffix}"
    path.write_bytes(data)
    problems = refused(lambda: read_documents([path]))
    assert all("any." in problem.field for problem in problems)


# JSON escapes what lies beyond 16 bits as two surrogates, which YAML does not take.
TEXTS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]))
# YAML takes a key on one line up to 1024 characters, escapes and all; JSON any.
KEYS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=100)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)


@QUICK
@given(PLAIN)
def test_hyperparameters_come_through_yaml_and_json_alike(tmp_path_factory, value):
    template = {"spec": {"containers": [{"name": "a"}]}}
    document = {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": "FederatedLearningJob",
        "metadata": {"name": "a"},
        "spec": {
            "aggregationWorker": {"model": {"name": "m"}, "template": template},
            "trainingWorkers": [],
            "hyperparameters": {"x": value},
        },
    }
    folder = tmp_path_factory.mktemp("files")
    read = []
    for name in ("a.yaml", "b.json"):
        (folder / name).write_text(json.dumps(document))
        try:
            read.append(read_documents([folder / name]).jobs[0].spec.hyperparameters["x"])
        except InvalidJobError:
            read.append("refused")
    assert repr(read[0]) == repr(read[1])
