"""What only a folder can do wrong: full disks, missing rights, half-written files."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fedloom.artifacts.array_files import ArrayFileWriter
from fedloom.artifacts.files import disk_error
from fedloom.artifacts.local import LocalStore
from fedloom.errors import JobError, StoreUnavailableError

NOBODY = 65534


def _files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@contextmanager
def _largest_file(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _somebody_without_rights() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture
def tiny_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or not _succeeds(command):
        folder.rmdir()
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def test_a_new_file_has_the_usual_rights_and_no_second_name(tmp_path):
    store = LocalStore(tmp_path / "store")
    store.put("a/b", b"x")
    state = (tmp_path / "store/a/b").stat()
    mask = os.umask(0)
    os.umask(mask)
    assert state.st_nlink == 1
    assert state.st_mode & 0o777 == 0o666 & ~mask
    assert _files_below(tmp_path) == ["store/a/b"]


def test_opening_a_store_writes_nothing(tmp_path):
    store = LocalStore(tmp_path / "store")
    assert store.list("") == []
    assert not store.exists("a")
    assert list(tmp_path.iterdir()) == []


def test_materialize_gives_the_stores_own_file(tmp_path):
    store = LocalStore(tmp_path / "store")
    artifact = store.put("a/b", b"x")
    path = store.materialize("a/b", tmp_path / "elsewhere", digest=artifact.digest)
    assert path == tmp_path / "store/a/b"
    assert not (tmp_path / "elsewhere").exists()


def test_a_writers_leftover_is_no_artifact(tmp_path):
    store = LocalStore(tmp_path)
    store.put("a/b", b"x")
    (tmp_path / "a/.fedloom-tmp-0123456789abcdef").write_bytes(b"half")
    assert store.list("") == ["a/b"]
    store.delete("a")
    assert list(tmp_path.iterdir()) == []


def test_a_key_cannot_be_a_file_and_a_folder(tmp_path):
    store = LocalStore(tmp_path)
    store.put("a", b"x")
    store.put("c/d", b"x")
    for key in ("a/b", "c"):
        for replace in (False, True):
            with pytest.raises(JobError) as caught:
                store.put(key, b"y", replace=replace)
            assert caught.value.reason == "KeyConflict"
    assert store.list("") == ["a", "c/d"]
    assert _files_below(tmp_path) == ["a", "c/d"]


def test_a_disk_without_hard_links_keeps_what_is_there(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    store = LocalStore(tmp_path)
    store.put("a", b"x")
    store.put("a", b"x")
    with pytest.raises(JobError) as caught:
        store.put("a", b"y")
    assert caught.value.reason == "ArtifactExists"
    assert _files_below(tmp_path) == ["a"]


def test_a_durable_put_syncs_the_file_and_both_folders(tmp_path, monkeypatch):
    synced = []
    sync = os.fsync

    def follow(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to see what was synced")
    monkeypatch.setattr(os, "fsync", follow)
    store = LocalStore(tmp_path)
    store.put("round-0001/a", b"x")
    assert synced == []
    store.put("round-0001/result.json", b"x", durable=True)
    assert synced[0].startswith(str(tmp_path / "round-0001/.fedloom-tmp-"))
    assert synced[1:] == [str(tmp_path / "round-0001"), str(tmp_path)]


def test_a_full_disk_is_named_and_nothing_is_left(tiny_disk, tmp_path):
    store = LocalStore(tiny_disk)
    store.put("a", b"x" * 1000)
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100_000)
    for put in (
        lambda: store.put("round-0001/big", b"x" * 100_000),
        lambda: store.put_file("round-0001/big", source),
    ):
        with pytest.raises(JobError) as caught:
            put()
        assert caught.value.reason == "StoreFull"
        for words in (str(tiny_disk / "round-0001"), "are free", "make room"):
            assert words in str(caught.value)
    assert _files_below(tiny_disk) == ["a"]
    assert store.get("a") == b"x" * 1000


def test_a_full_disk_ends_an_array_file_and_nothing_is_left(tiny_disk):
    values = np.zeros(100_000, np.float32)

    def write() -> None:
        with ArrayFileWriter(tiny_disk / "m", {"w": (values.dtype, values.shape)}) as writer:
            writer.write("w", 0, values)

    with pytest.raises(JobError) as caught:
        write()
    assert caught.value.reason == "StoreFull"
    assert _files_below(tiny_disk) == []


def test_a_file_above_the_limit_is_a_full_store_and_nothing_is_left(tmp_path):
    store = LocalStore(tmp_path / "store")
    with _largest_file(8192), pytest.raises(JobError) as caught:
        store.put("round-0001/big", b"x" * 100_000)
    assert caught.value.reason == "StoreFull"
    assert str(tmp_path / "store/round-0001") in str(caught.value)
    assert "100000 bytes" in str(caught.value)
    assert _files_below(tmp_path) == []


def test_a_folder_without_rights_is_named_with_what_to_do():
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "store"
        store = LocalStore(folder)
        artifact = store.put("secret", b"x")
        os.chmod(folder / "secret", 0)
        os.chmod(folder, 0o555)
        os.chmod(base, 0o755)
        calls = [
            lambda: store.put("k", b"x"),
            lambda: store.put("deeper/k", b"x"),
            lambda: store.put_file("k", Path(__file__)),
            lambda: store.get("secret"),
            lambda: store.materialize("secret", folder, digest=artifact.digest),
            lambda: store.read("secret", 0, 1),
            lambda: store.delete("secret"),
        ]
        with _somebody_without_rights():
            for call in calls:
                with pytest.raises(JobError) as caught:
                    call()
                assert caught.value.reason == "StoreDenied"
                assert "give this user the right" in str(caught.value)
        os.chmod(folder, 0o755)
        assert _files_below(folder) == ["secret"]


@pytest.mark.parametrize(
    ("number", "reason"),
    [(28, "StoreFull"), (122, "StoreFull"), (30, "StoreDenied"), (13, "StoreDenied")],
    ids=["ENOSPC", "EDQUOT", "EROFS", "EACCES"],
)
def test_an_error_of_the_disk_is_final_and_names_the_path(number, reason, tmp_path):
    error = disk_error(OSError(number, os.strerror(number)), tmp_path / "gone/k", 123)
    assert isinstance(error, JobError)
    assert error.reason == reason
    assert str(tmp_path / "gone") in str(error)


@pytest.mark.parametrize("number", [24, 5, 116], ids=["EMFILE", "EIO", "ESTALE"])
def test_a_passing_error_of_the_disk_may_be_tried_again(number):
    assert isinstance(disk_error(OSError(number, "x"), "/k"), StoreUnavailableError)
