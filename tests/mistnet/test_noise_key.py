"""The key of an edge: made once, its owner's alone, and never seen."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from fedloom.errors import JobError
from fedloom.keys.noise import NoiseKey, Occasion
from fedloom.training.noise_key import noise_key

OCCASION = Occasion("sha256:" + "a" * 64, "sha256:" + "b" * 64, (3, 5), 7)


def test_it_is_made_once_for_its_owner_alone(tmp_path):
    folder = tmp_path / "edge"
    key = noise_key(folder)
    (path,) = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert path.stat().st_size == 32
    assert noise_key(folder).fingerprint == key.fingerprint
    assert noise_key(tmp_path / "other").fingerprint != key.fingerprint


def test_of_many_that_make_it_at_once_all_get_the_same(tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(noise_key(tmp_path).fingerprint))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["noise-key"]


def test_one_that_others_may_read_is_refused(tmp_path):
    noise_key(tmp_path)
    (tmp_path / "noise-key").chmod(0o640)
    with pytest.raises(JobError, match="got mode -rw-r-----"):
        noise_key(tmp_path)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_broken_one_is_not_replaced(tmp_path, size):
    descriptor = os.open(tmp_path / "noise-key", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, bytes(size))
    os.close(descriptor)
    with pytest.raises(JobError, match=f"noise key of {size} bytes, expected 32"):
        noise_key(tmp_path)
    assert (tmp_path / "noise-key").stat().st_size == size


def test_a_link_to_somewhere_else_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(bytes(32))
    (tmp_path / "noise-key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobError, match="noise-key"):
        noise_key(tmp_path)


def test_it_is_in_no_repr():
    secret = bytes(range(100, 132))
    key = NoiseKey(secret)
    shown = f"{key!r} {key.noise(OCCASION)!r} {key.fingerprint} {vars(OCCASION)}"
    assert secret.hex() not in shown
    assert repr(secret)[2:-1] not in shown


def test_its_noise_is_read_in_any_pieces():
    key = NoiseKey(bytes(32))
    whole, pieces = key.noise(OCCASION), key.noise(OCCASION)
    expected = whole(1000)
    assert b"".join(pieces(count) for count in (1, 15, 16, 17, 0, 951)) == expected


def test_identifiers_tell_occasions_apart_and_depend_on_the_key():
    keys = NoiseKey(bytes(32)), NoiseKey(bytes(31) + b"\1")
    others = [
        Occasion("sha256:" + "c" * 64, OCCASION.extractor, (3, 5), 7),
        Occasion(OCCASION.image, OCCASION.image, (3, 5), 7),
        Occasion(OCCASION.image, OCCASION.extractor, (5, 3), 7),
        Occasion(OCCASION.image, OCCASION.extractor, (3, 5), 8),
        OCCASION,
    ]
    assert len({key.identifier(each) for key in keys for each in others}) == 10


@pytest.mark.parametrize("digest", ["", "a" * 64, "sha256:" + "a" * 63, "sha256:" + "g" * 64])
def test_what_is_no_digest_is_refused(digest):
    with pytest.raises(JobError, match="expected sha256"):
        NoiseKey(bytes(32)).noise(Occasion(digest, OCCASION.extractor, (3,), 1))
