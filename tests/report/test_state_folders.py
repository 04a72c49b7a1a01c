"""Whatever the folder holds, the answer is a page or one clear sentence, never a traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.report import write_report
from fedloom.errors import FedloomError, JobError, StateError


def report(*arguments):
    return subprocess.run(
        [sys.executable, "-I", "-m", "cli.main", "report", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_writes_into_the_state_folder_and_names_the_page(folder):
    folder.write_run()
    found = report(folder.root)
    page = folder.root / "report.html"
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == f"{page}: 3 of 3 rounds\n"
    assert page.read_text().startswith("<!doctype html>")


def test_what_is_no_state_folder_is_refused_by_name(tmp_path):
    found = report(tmp_path)
    assert found.returncode == 1
    assert f"{tmp_path}: got a folder without job.json" in found.stderr
    assert "Traceback" not in found.stderr
    with pytest.raises(StateError, match="got no folder without"):
        write_report(tmp_path / "none", tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


RECORDS = {
    "empty": "",
    "no-json": "{",
    "list": "[]",
    "lacks-fields": '{"name": "x"}',
    "numbers": '{"namespace": 1, "name": 2, "uid": 3, "spec": {}}',
    "no-spec": '{"namespace": "a", "name": "b", "uid": "12345678", "spec": []}',
    "short-uid": '{"namespace": "a", "name": "b", "uid": "1", "spec": {}}',
    "path": '{"namespace": "../..", "name": "b", "uid": "12345678", "spec": {}}',
}


@pytest.mark.parametrize("content", RECORDS.values(), ids=RECORDS)
def test_a_damaged_record_is_refused(tmp_path, content):
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(FedloomError):
        write_report(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"rounds": "x", "training_workers": 3, "algorithm": [], "compression": 1},
        {"stop_condition": {"metric": "accuracy", "threshold": "x", "patience": "y"}},
        {"participation": [], "transmitter": "none", "rounds": -1},
    ],
)
def test_a_record_with_odd_settings_still_gives_a_page(folder, spec):
    folder.write_run()
    folder.write_record(spec=spec)
    assert "default/digits" in folder.report()


DAMAGE = {
    "empty": b"",
    "cut": b'{"round": 2, "metr',
    "binary": b"\x00\xff\xfe",
    "list": b"[1]",
    "lacks-fields": b"{}",
    "nested": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_result_ends_the_rounds_before_it_and_is_named(folder, content):
    folder.write_run()
    path = folder.artifacts / "round-0002/result.json"
    path.write_bytes(content)
    page = folder.report()
    assert "1 of 3 rounds done" in page
    assert f"{path.as_uri()} is damaged" in page
    assert "warning" in write_report(folder.root, folder.root / "report.html")


def test_a_result_of_another_round_is_damage(folder):
    folder.write_run()
    folder.write_round(2, round=7)
    assert "got round 7, expected 2" in folder.report()


ODD = {
    "metrics": [
        {"metrics": value} for value in ([], None, {"a": "x"}, {"a": None}, {"a": 10**400})
    ],
    "clients": [
        {"clients": value} for value in ([], 3, {"a": 3}, {"a": {}}, {"a": {"steps": [1]}})
    ],
    "times": [
        {"started": "x", "finished": None, "seconds": -3},
        {"started": 1e308, "finished": 1e18},
    ],
    "traffic": [{"traffic": {"uplink_bytes": -5, "downlink_bytes": 10**30}}, {"traffic": 4}],
    "model": [
        {"model": None},
        {"model": {"key": "/../x"}},
        {"model": {"key": 4, "size_bytes": "x"}},
    ],
    "server": [{"server": 1}, {"server": {"steps": {"aggregate": [5, 1], "x": [None, 2], "y": 3}}}],
    "attempt": [{"attempt": "x"}, {"attempt": -1}, {"attempt": 10**9}],
}


@pytest.mark.parametrize(
    "changes", [one for group in ODD.values() for one in group], ids=lambda one: str(one)[:40]
)
def test_odd_values_in_a_result_still_give_a_page(folder, changes):
    folder.write_run()
    for number in (2, 3):
        path = folder.artifacts / f"round-{number:04d}/result.json"
        path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))
    assert "3 of 3 rounds" in folder.report()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"clients": 3}', b'{"clients": {"a": 1}}'])
def test_a_damaged_attempt_still_gives_a_page(folder, content):
    folder.write_run(1)
    folder.write_attempt(2, 1).write_bytes(content)
    assert "1 attempt at a round gave no model" in folder.report()


def test_an_output_folder_that_is_missing_is_named(folder):
    folder.write_run()
    found = report(folder.root, "-o", folder.root / "none/page.html")
    assert found.returncode == 1
    assert f"there is no folder {folder.root / 'none'}" in found.stderr
    assert not (folder.root / "none").exists()


def test_an_output_that_is_a_folder_is_refused(folder):
    folder.write_run()
    with pytest.raises(JobError, match="is a folder, expected the name of a file"):
        write_report(folder.root, folder.root)


def test_an_output_below_a_file_is_refused(folder):
    folder.write_run()
    with pytest.raises(JobError, match="there is no folder"):
        write_report(folder.root, folder.root / "job.json/page.html")


def test_a_page_replaces_the_one_before_and_leaves_nothing_else(folder, tmp_path):
    folder.write_run(1)
    output = tmp_path / "pages"
    output.mkdir()
    write_report(folder.root, output / "page.html")
    before = (output / "page.html").read_text()
    folder.write_round(2)
    write_report(folder.root, output / "page.html")
    assert (output / "page.html").read_text() != before
    assert [path.name for path in output.iterdir()] == ["page.html"]


def test_a_relative_folder_is_fine(folder, monkeypatch):
    folder.write_run()
    monkeypatch.chdir(folder.root.parent)
    assert "3 of 3" in write_report(Path("state"), Path("page.html"))


def test_reading_changes_nothing_in_the_folder(folder, tmp_path):
    folder.write_run()

    def content():
        return {p: p.read_bytes() for p in sorted(folder.root.rglob("*")) if p.is_file()}

    before = content()
    write_report(folder.root, tmp_path / "page.html")
    assert content() == before


def test_a_job_in_s3_without_credentials_says_what_to_set(folder, monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    folder.spec["transmitter"] = {"s3": {"agg_data_path": "s3://b/p/", "credential_name": "minio"}}
    folder.write_record()
    with pytest.raises(JobError) as caught:
        write_report(folder.root, folder.root / "report.html")
    for words in ("s3://b/p/default/digits-12345678", "AWS_ACCESS_KEY_ID", "Secret 'minio'"):
        assert words in str(caught.value)


def test_a_job_in_s3_is_read_with_the_credentials_of_the_environment(
    folder, minio_server, s3_bucket, monkeypatch
):
    folder.write_run()
    client = minio_server.client()
    for path in folder.artifacts.rglob("*"):
        if path.is_file():
            key = f"reports/default/digits-12345678/{path.relative_to(folder.artifacts)}"
            client.fput_object(bucket_name=s3_bucket, object_name=key, file_path=str(path))
    shutil.rmtree(folder.root / "artifacts")
    folder.spec["transmitter"] = {"s3": {"agg_data_path": f"s3://{s3_bucket}/reports"}}
    folder.write_record()
    monkeypatch.setenv("AWS_ENDPOINT_URL", minio_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio_server.secret_key)
    page = folder.report()
    assert "3 of 3 rounds done" in page
    assert "1,000 parameters" in page
    assert minio_server.secret_key not in page


def test_a_result_is_read_the_same_way_whole_or_without_its_clients(folder, succeeded):
    from cli.report_page.reading import _WHOLE_BYTES, _head_of

    clients = {f"c{n}": succeeded(n, metrics={"finished": 1.0}) for n in range(600)}
    for metrics in ({"a": 1.0}, {"finished": 2.0}, {'x", "clients": {': 3.0}):
        data = folder.write_round(1, clients, metrics=metrics).read_bytes()
        assert len(data) > _WHOLE_BYTES
        expected = json.loads(data)
        head = dict(_head_of(data))
        head.pop("clients", None)
        expected.pop("clients")
        assert head == expected
