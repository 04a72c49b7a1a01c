"""Data from elsewhere: whole or not there, transferred once, unpacked without trust."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
import tarfile
import zipfile
from urllib.request import HTTPRedirectHandler, Request

import pytest

from components.archive import unpack
from components.download import Downloads
from components.web import _OPENER
from fedloom.api.places import download_of, folder_of, path_of, url_problem
from fedloom.artifacts.retry import RetryPolicy
from fedloom.errors import ArtifactNotFoundError, JobError, StoreUnavailableError

QUICK = RetryPolicy(attempts=3, base_seconds=0.0, cap_seconds=0.0, total_seconds=5.0)


@pytest.fixture
def downloads(tmp_path):
    return Downloads(tmp_path / "downloads", QUICK, QUICK)


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), kind, link
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_a_file_is_at_its_host_and_path(downloads, web, host, tmp_path):
    web.files["/sets/a.csv"] = b"1,2\n"
    fetched = downloads.fetch(f"{web.url}/sets/a.csv?token=x")
    assert fetched.path == tmp_path / "downloads" / host / "sets/a.csv"
    assert fetched.path.read_bytes() == b"1,2\n"
    assert fetched.is_new


def test_what_is_there_is_asked_for_and_not_transferred_again(downloads, web):
    web.files["/a.csv"] = b"1\n"
    url = f"{web.url}/a.csv"
    assert downloads.fetch(url).is_new
    assert not downloads.fetch(url).is_new
    assert (web.asked, web.sent) == (2, 1)
    web.files["/a.csv"] = b"2\n"
    assert downloads.fetch(url).path.read_bytes() == b"2\n"
    assert web.sent == 2


def test_without_etags_size_and_time_decide(downloads, web):
    web.has_etags = False
    web.files["/a.csv"] = b"1\n"
    url = f"{web.url}/a.csv"
    downloads.fetch(url)
    assert not downloads.fetch(url).is_new
    web.files["/a.csv"] = b"longer\n"
    assert downloads.fetch(url).is_new


def test_a_server_that_stumbles_is_asked_again(downloads, web):
    web.files["/a.bin"] = bytes(100_000)
    web.faults = ["503", "cut"]
    assert len(downloads.fetch(f"{web.url}/a.bin").path.read_bytes()) == 100_000
    assert web.asked == 3


def test_half_a_file_is_never_taken_for_a_whole_one(downloads, web):
    web.files["/a.bin"] = bytes(100_000)
    web.faults = ["cut"] * 3
    url = f"{web.url}/a.bin"
    with pytest.raises(StoreUnavailableError, match="50000 bytes of 100000"):
        downloads.fetch(url)
    assert not downloads.place_of(url).exists()
    assert downloads.fetch(url).is_new


def test_a_file_that_was_cut_here_is_fetched_anew(downloads, web):
    web.files["/a.bin"] = bytes(1000)
    fetched = downloads.fetch(f"{web.url}/a.bin")
    fetched.path.write_bytes(bytes(10))
    assert downloads.fetch(f"{web.url}/a.bin").is_new
    assert fetched.path.stat().st_size == 1000


def test_a_whole_file_does_while_the_other_side_is_away(downloads, web):
    web.files["/a.csv"] = b"1\n"
    downloads.fetch(f"{web.url}/a.csv")
    web.faults = ["503"] * 3
    fetched = downloads.fetch(f"{web.url}/a.csv")
    assert (fetched.is_new, fetched.path.read_bytes()) == (False, b"1\n")


def test_what_is_not_there_or_not_allowed_is_told_without_the_query(downloads, web):
    with pytest.raises(ArtifactNotFoundError) as caught:
        downloads.fetch(f"{web.url}/none.csv?X-Amz-Signature=abc")
    assert "abc" not in str(caught.value)
    web.faults = ["403"]
    with pytest.raises(JobError, match="HTTP 403"):
        downloads.fetch(f"{web.url}/none.csv")
    assert web.asked == 2


def test_redirects_are_followed_within_http_only(downloads, web, tmp_path):
    (tmp_path / "secret").write_text("x")
    web.files["/b.csv"] = b"1\n"
    web.faults = [f"to {web.url}/b.csv"]
    assert downloads.fetch(f"{web.url}/a.csv").path.read_bytes() == b"1\n"
    for place, said in (
        ("ftp://h/x", "expected http or https"),
        (f"file://{tmp_path}/secret", "302"),
    ):
        web.faults = [f"to {place}"]
        with pytest.raises(JobError) as caught:
            downloads.fetch(f"{web.url}/c.csv?token=abc")
        assert caught.value.reason == "DownloadRefused"
        assert said in caught.value.message
        assert "abc" not in str(caught.value)


def test_a_redirect_does_not_take_the_encryption_away():
    (handler,) = (each for each in _OPENER.handlers if isinstance(each, HTTPRedirectHandler))
    asked = Request("https://h/a.csv?token=abc")
    follow = handler.redirect_request(asked, None, 302, "Found", {}, "https://other/b")
    assert follow.full_url == "https://other/b"
    with pytest.raises(JobError, match="from https to http, expected https") as caught:
        handler.redirect_request(asked, None, 302, "Found", {}, "http://h/b")
    assert "abc" not in str(caught.value)


def test_paths_are_asked_for_as_people_write_them(downloads, web):
    web.files["/my%20s%C3%A4tze/a.csv"] = b"1\n"
    assert downloads.fetch(f"{web.url}/my sätze/a.csv").path.read_bytes() == b"1\n"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "/etc/passwd", "a.csv", "s3://../kept.json"])
def test_nothing_but_what_is_elsewhere_is_downloaded(downloads, url):
    with pytest.raises(JobError) as caught:
        downloads.fetch(url, signed="http://127.0.0.1:1/x")
    assert caught.value.reason == "BadUrl"


def test_an_archive_is_unpacked_beside_itself_and_replaced_as_a_whole(downloads, web):
    url = f"{web.url}/sets/coco.zip"
    web.files["/sets/coco.zip"] = zipped(**{"coco/a": b"1", "coco/b": b"2", "index.txt": b"a\nb\n"})
    path = downloads.fetch(url).path
    assert (path.parent / "coco/a").read_bytes() == b"1"
    assert (path.parent / "index.txt").exists()
    web.files["/sets/coco.zip"] = zipped(**{"coco/c": b"3"})
    downloads.fetch(url)
    assert sorted(each.name for each in (path.parent / "coco").iterdir()) == ["c"]
    assert not (path.parent / "index.txt").exists()
    (path.parent / "coco/c").unlink()
    (path.parent / "coco").rmdir()  # somebody cleared up
    assert downloads.fetch(url).is_new
    assert (path.parent / "coco/c").exists()


def test_an_archive_that_was_moved_half_is_laid_out_anew(downloads, web):
    url = f"{web.url}/sets/x.tar.gz"
    web.files["/sets/x.tar.gz"] = tarred(("a/1", b"1"), ("b/1", b"2"))
    path = downloads.fetch(url).path
    record = next((downloads.place_of("http://x/y").parents[1] / ".fedloom").glob("*.json"))
    moving = record.with_suffix(".moving")
    record.rename(moving)  # as a kill leaves it: moved in part, not recorded
    moving.write_text(json.dumps(["a", "b"]))
    assert downloads.fetch(url).is_new
    assert (path.parent / "b/1").read_bytes() == b"2"


def link_in_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.zip", zipped(**{"/x": b"1"}), "leads out"),
        ("a.zip", zipped(**{"a/../x": b"1"}), "leads out"),
        ("a.zip", link_in_zip(), "neither"),
        ("a.zip", b"PK no zip", "BadZipFile"),
        ("a.tar.gz", tarred(("../x", b"1")), "leads out"),
        ("a.tar.gz", tarred(("/x", b"1")), "leads out"),
        ("a.tar.gz", tarred(("x", b""), kind=tarfile.SYMTYPE, link="/etc"), "neither"),
        ("a.tar.gz", tarred(("x", b""), kind=tarfile.LNKTYPE, link="/etc/passwd"), "neither"),
        ("a.tar.gz", tarred(("x", b""), kind=tarfile.CHRTYPE), "neither"),
        ("a.tar.gz", tarred(("x", b"1"), ("x", b"2")), "one place"),
        ("a.tgz", b"no gzip", "gzip"),
        ("a.tar.gz", tarred(("x", bytes(100_000)))[:-60], "Error"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",  # an archive has the time in it
)  # fmt: skip
def test_an_archive_that_wants_what_it_must_not_is_refused(tmp_path, name, data, said):
    archive, folder = tmp_path / name, tmp_path / "out"
    archive.write_bytes(data)
    folder.mkdir()
    with pytest.raises(JobError, match=said) as caught:
        unpack(archive, folder)
    assert caught.value.reason == "BadArchive"
    assert sorted(each.name for each in tmp_path.iterdir()) == [name, "out"]


def test_a_bomb_is_refused_before_the_disk_is_full(tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 65 << 20))
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(4 << 20))
    with pytest.raises(JobError, match="room"):
        unpack(archive, tmp_path)


def test_a_refused_archive_leaves_nothing_and_is_not_taken_for_good(downloads, web):
    web.files["/a.zip"] = zipped(x=b"1")[:-30]
    for _ in range(2):
        with pytest.raises(JobError, match="BadZipFile"):
            downloads.fetch(f"{web.url}/a.zip")
    web.files["/a.zip"] = zipped(x=b"1")
    assert downloads.fetch(f"{web.url}/a.zip").is_new


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/", "never mounted"),
        ("//./", "never mounted"),
        ("/data/../etc", "'..'"),
        ("s3://bucket/../other/x", "'..'"),
        ("s3://bucket", "s3://host/path"),
        ("s3://bucket/folder/", ".zip"),
        ("https://user:secret@host/x", "user in it"),
        ("s3://../x", "begin with a dot"),
        ("http://.fedloom/x.json", "begin with a dot"),
        ("https://host/?token=secret", "host/path"),
        ("/data/a\nb", "printed"),
    ],
)
def test_a_url_that_no_pod_can_be_made_for_is_refused(url, said):
    problem = url_problem(url)
    assert said in problem
    assert "secret" not in problem


def test_good_urls_are_taken_apart():
    good = ("/data/1", "/x", "data/x", "s3://b/k.zip", "https://h:1/p", "pvc://c/x", "/data/..x")
    assert [url_problem(url) for url in good] == [None] * len(good)
    assert path_of("/data//1/./x/") == "/data/1/x"
    assert (folder_of("/data/1/"), folder_of("/model/"), folder_of("/a/b.pth")) == (
        "/data", "/model", "/a"
    )  # fmt: skip
    assert download_of("s3://bucket/a//b.zip") == "bucket/a/b.zip"


def test_the_step_runs_as_a_pod_runs_it(web, host, tmp_path, minio_server, s3_bucket):
    from datetime import timedelta

    client = minio_server.client()
    data = zipped(**{"images/1": b"jpeg"})
    key = f"{tmp_path.name}/coco.zip"
    client.put_object(
        bucket_name=s3_bucket, object_name=key, data=io.BytesIO(data), length=len(data)
    )
    signed = client.presigned_get_object(
        bucket_name=s3_bucket, object_name=key, expires=timedelta(hours=1)
    )
    web.files["/pre.pth"] = b"weights"
    urls = {f"s3://{s3_bucket}/{key}": "keys", f"{web.url}/pre.pth": ""}
    task = {
        "name": "train-a", "step": "train", "group": "client-a", "client": "a",
        "inputs": {}, "outputs": {}, "settings": {"downloads": urls},
    }  # fmt: skip
    plan = {
        "job": {}, "round": 1, "rounds": 1, "attempt": 1, "tasks": [task],
        "urls": {"get": {}, "put": {}, "signed": {f"s3://{s3_bucket}/{key}": signed}},
    }  # fmt: skip
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan))
    command = [sys.executable, "-I", "-m", "components.download", "--plan", str(file)]
    command += ["--store", f"presigned://{file}", "--workdir", str(tmp_path / "round")]
    command += ["--edge", str(tmp_path / "edge"), "--client", "a"]
    said = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        said.append(json.loads(done.stdout))
        assert "Signature" not in done.stdout + done.stderr
    assert [(each["transferred"], each["kept"]) for each in said] == [(2, 0), (0, 2)]
    here = tmp_path / "edge/a/fedloom/downloads"
    assert (here / s3_bucket / tmp_path.name / "images/1").read_bytes() == b"jpeg"
    assert (here / host / "pre.pth").read_bytes() == b"weights"
