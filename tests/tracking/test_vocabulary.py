"""Names and texts made fit for MLflow, and what must never get there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.tracking import vocabulary
from fedloom.tracking.addresses import is_database, page_of
from fedloom.tracking.tracker import DatasetDescription, JobDescription


@given(st.text(max_size=400))
def test_any_text_becomes_a_key_that_mlflow_takes(text):
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    key = vocabulary.legal_key(text)
    _validate_metric_name(key)
    _validate_param_name(key)
    assert len(key) <= 250
    assert vocabulary.legal_key(key) == key


@given(st.lists(st.text(max_size=300), unique=True, max_size=20))
def test_keys_of_different_names_differ(names):
    taken: dict[str, None] = {}
    for name in names:
        taken[vocabulary.free_key(name, taken)] = None
    assert len(taken) == len(names)


def test_good_names_stay_as_they_are():
    for name in ("accuracy", "client/digits-0/loss", "top 5", "a.b:c-d_e"):
        assert vocabulary.legal_key(name) == name


def described(**parameters):
    return JobDescription("fl", "digits", "u", 20, parameters)


def test_long_parameters_are_cut_and_rounds_are_always_there():
    found = vocabulary.parameters(described(note="x" * 7000))
    assert len(found["note"]) == 6000
    assert found["note"].endswith("...")
    assert found["rounds"] == "20"


@pytest.mark.parametrize(
    "name",
    ["password", "s3.secretKey", "ACCESS_KEY", "authToken", "hub_token", "apiKey", "credentials"],
)
def test_what_is_called_like_a_secret_is_hidden(name):
    assert vocabulary.parameters(described(**{name: "hunter2"}))[name] == "***"


@pytest.mark.parametrize("name", ["maxTokens", "tokenizer", "keyframes", "secureAggregation"])
def test_what_only_sounds_like_a_secret_is_shown(name):
    assert vocabulary.parameters(described(**{name: "5"}))[name] == "5"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://key:pw@host/bucket", "s3://***@host/bucket"),
        ("see https://h/x?X-Amz-Signature=abc&y=1 there", "see https://h/x?*** there"),
        ("postgresql+psycopg2://me:p%40w@db:5432/m", "postgresql+psycopg2://***@db:5432/m"),
        ("https://me:pw@h/?sig=a?b&t=/c", "https://***@h/?***"),
        ("http://h/#token=abc", "http://h/?***"),
        ("one s3://a:b@h two s3://c:d@h", "one s3://***@h two s3://***@h"),
        ("'http://me:p?w@h/x'", "'http://***@h/x'"),
        ("data/client-0.npz", "data/client-0.npz"),
        ("s3://bucket/a?b", "s3://bucket/a?b"),
    ],
)
def test_credentials_in_addresses_are_hidden(text, shown):
    assert vocabulary.without_credentials(text) == shown


def test_a_source_that_many_use_is_one_dataset():
    job = JobDescription(
        "fl",
        "digits",
        "u",
        1,
        {},
        datasets=(
            DatasetDescription("d", "s3://k:pw@h/d", client="a"),
            DatasetDescription("d", "s3://k:pw@h/d", client="b"),
            DatasetDescription("d", "s3://k:pw@h/d", context="evaluation"),
            DatasetDescription("e", "e.npz", "sha256:" + "a" * 64),
        ),
    )
    found = vocabulary.datasets(job)
    assert [name for name, _ in found] == ["d", "e"]
    d, e = found.values()
    assert d["source"] == "s3://***@h/d"
    assert d["mlflow.data.context"] == "training, evaluation"
    assert d[vocabulary.CLIENT_TAG] == "a, b"
    assert vocabulary.CLIENT_TAG not in e
    digests = [digest for _, digest in found]
    assert digests[0].startswith("source-")
    assert digests[1] == "a" * 36


@pytest.mark.parametrize(
    ("uri", "is_one"),
    [
        ("sqlite:////x/mlflow.db", True),
        ("postgresql+psycopg2://u:p@h/d", True),
        ("http://h:5000", False),
        ("databricks", False),
        ("file:///x", False),
    ],
)
def test_databases_are_told_from_servers(uri, is_one):
    assert is_database(uri) is is_one


def test_the_page_of_a_run_holds_no_credentials():
    found = page_of("https://me:pw@mlflow.example:8443/base/", "7", "abc")
    assert found == "https://mlflow.example:8443/base/#/experiments/7/runs/abc"
    assert page_of("sqlite:///x.db", "7", "abc") is None
