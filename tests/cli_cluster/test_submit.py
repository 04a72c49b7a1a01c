"""`fedloom submit`: checked here first, applied in order, and it says what became of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.cluster.submit import Way, read_submission, submit
from fedloom.errors import InvalidJobError, JobError

EXAMPLE = Path(__file__).parents[2] / "examples/05-on-a-cluster/job.yaml"
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {ACCESS_KEY_ID: a, SECRET_ACCESS_KEY: hush}
"""


def results(server, files, namespace="team", asked=None, way=None):
    documents = read_submission(server, files, namespace, asked)
    return [(each.kind, each.result) for each in submit(server, documents, way or Way())]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "job.yaml").write_text(EXAMPLE.read_text() + "---" + SECRET)
    return [tmp_path / "job.yaml"]


def only_the_job(tmp_path, **changes):
    text = EXAMPLE.read_text().split("\n---\n", maxsplit=1)[0]
    for old, new in changes.items():
        text = text.replace(old.replace("_", "-"), new)
    (tmp_path / "only.yaml").write_text(text)
    return [tmp_path / "only.yaml"]


def test_what_a_job_names_is_applied_before_the_job(server, files):
    kinds = [kind for kind, _ in results(server, files)]
    assert kinds == ["Dataset"] * 4 + ["Model", "Secret", "FederatedLearningJob"]


def test_documents_without_a_namespace_go_where_the_context_says(server, files):
    results(server, files)
    assert {call[2] for call in server.calls} == {"team"}


def test_a_second_time_nothing_changes_and_an_edit_configures(server, files):
    assert {result for _, result in results(server, files)} == {"created"}
    assert {result for _, result in results(server, files)} == {"unchanged"}
    files[0].write_text(files[0].read_text().replace("rounds: 5", "rounds: 6"))
    changed = [kind for kind, result in results(server, files) if result == "configured"]
    assert changed == ["FederatedLearningJob"]


def test_a_dry_run_changes_nothing(server, files):
    results(server, files, way=Way(is_dry=True))
    assert all(call[4] for call in server.calls)
    assert server.objects == {}


def test_a_job_that_no_etcd_holds_reaches_no_cluster(server, files):
    note = "x" * (1_500 << 10)
    text = files[0].read_text()
    files[0].write_text(
        text.replace("metadata:\n", f"metadata:\n  annotations: {{n: {note}}}\n", 1)
    )
    with pytest.raises(InvalidJobError, match=r"bytes, expected at most 1441792, what a cluster's"):
        results(server, files)
    assert server.calls == []


def test_an_invalid_job_reaches_no_cluster(server, tmp_path):
    with pytest.raises(InvalidJobError) as caught:
        results(server, only_the_job(tmp_path, int8="int9"))
    fields = [problem.field.rpartition(" ")[2] for problem in caught.value.problems]
    assert "spec.compression.uplink.codec" in fields
    assert "spec.trainingWorkers[2].dataset.name" in fields
    assert server.calls == []


def test_what_is_in_the_cluster_already_need_not_be_in_the_files(server, files, tmp_path):
    results(server, files)
    assert results(server, only_the_job(tmp_path)) == [("FederatedLearningJob", "unchanged")]
    with pytest.raises(InvalidJobError, match="did you mean 'digits-3'"):
        results(server, only_the_job(tmp_path, digits_3="digits-4"))


def test_datasets_of_another_namespace_do_not_count(server, files, tmp_path):
    results(server, files)
    with pytest.raises(InvalidJobError, match="namespace 'other'"):
        results(server, only_the_job(tmp_path), namespace="other")


def test_a_secret_that_the_user_may_not_read_is_left_to_the_controller(server, files, tmp_path):
    results(server, files)
    s3 = "rounds: 5\n  transmitter: {s3: {aggDataPath: s3://b/p, credentialName: theirs}}"
    job = only_the_job(tmp_path, **{"rounds: 5": s3})
    with pytest.raises(InvalidJobError, match="'theirs'"):
        results(server, job)
    server.forbidden.add("secrets")
    assert results(server, job) == [("FederatedLearningJob", "configured")]


def test_a_document_of_another_namespace_than_asked_for_is_refused(server, files):
    files[0].write_text(
        files[0].read_text().replace("name: digits-2\n", "name: digits-2\n  namespace: x\n")
    )
    with pytest.raises(InvalidJobError, match="got 'x', expected 'team'"):
        results(server, files, asked="team")


def test_fields_of_others_are_taken_over_only_when_asked(server, files):
    server.conflicts.add("federatedlearningjobs")
    with pytest.raises(JobError, match="--force-conflicts"):
        results(server, files)
    assert results(server, files, way=Way(is_forced=True))[-1] == (
        "FederatedLearningJob",
        "created",
    )


def test_what_a_server_has_written_into_a_document_is_not_sent_back(server, tmp_path, make):
    import json

    results(server, [EXAMPLE])
    found = server.objects["federatedlearningjobs", "team", "digits"]
    found["metadata"] |= {"managedFields": [], "uid": "u", "generation": 4}
    found["status"] = {"phase": "Running"}
    (tmp_path / "copy.json").write_text(json.dumps(found))
    documents = read_submission(server, [tmp_path / "copy.json"], "team", None)
    (original,) = documents.originals.values()
    assert set(original["metadata"]) == {"name", "namespace"}
    assert "status" not in original


def test_no_secret_value_is_in_what_is_printed_of_documents(server, files):
    documents = read_submission(server, files, "team", None)
    assert "hush" not in repr(documents)
