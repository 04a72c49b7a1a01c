"""Keys: agreed on by two, sealed for one, streams that can be read from anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.errors import JobError
from fedloom.keys.agreement import KeyPair, derive
from fedloom.keys.keystream import AesKeystream
from fedloom.keys.sealing import OVERHEAD_BYTES, seal, unseal


def test_two_agree_on_what_nobody_else_does():
    a, b, c = (KeyPair.generate() for _ in range(3))
    key = a.agree(b.public, "masks", b"1")
    assert key == b.agree(a.public, "masks", b"1")
    assert len(key) == 32
    others = [
        c.agree(a.public, "masks", b"1"),
        a.agree(b.public, "shares", b"1"),
        a.agree(b.public, "masks", b"2"),
        a.agree(b.public, "masks1", b""),
    ]
    assert len({key, *others}) == 5


def test_the_public_key_is_that_of_rfc_7748():
    """Section 5.2: one iteration from the base point."""
    pair = KeyPair.of(b"\x09" + bytes(31))
    expected = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert pair.public.hex() == expected


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(32), b"\x01" + bytes(31)], ids=len)
def test_what_is_no_public_key_is_refused(key):
    with pytest.raises(JobError, match="public key"):
        KeyPair.generate().agree(key, "masks", b"")


def test_a_private_key_is_in_no_repr():
    pair = KeyPair.generate()
    assert pair.private.hex() not in repr(pair)
    assert repr(pair.private) not in repr(pair)
    with pytest.raises(JobError, match="private key of 3 bytes"):
        KeyPair.of(b"abc")


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_what_is_sealed_comes_back(message, label):
    key = derive(b"k", "test", b"")
    sealed = seal(key, message, label)
    assert len(sealed) == len(message) + OVERHEAD_BYTES
    assert unseal(key, sealed, label) == message
    assert seal(key, message, label) != sealed


@given(st.data())
def test_any_changed_bit_key_or_label_breaks_the_seal(data):
    key = derive(b"k", "test", b"")
    sealed = bytearray(seal(key, b"a share", b"from a to b"))
    place = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[place // 8] ^= 1 << place % 8
    with pytest.raises(JobError, match="changed or is for somebody else"):
        unseal(key, bytes(sealed), b"from a to b")


def test_a_seal_is_for_one_key_and_one_label():
    key = derive(b"k", "test", b"")
    sealed = seal(key, b"a share", b"from a to b")
    for other, label, text in (
        (derive(b"k", "test", b"2"), b"from a to b", sealed),
        (key, b"from a to c", sealed),
        (key, b"from a to b", sealed[:-1]),
        (key, b"from a to b", b""),
    ):
        with pytest.raises(JobError) as caught:
            unseal(other, text, label)
        assert caught.value.reason == "SealBroken"


@given(st.integers(0, 5000), st.integers(1, 3000))
def test_a_keystream_is_the_same_wherever_it_is_read_from(block, size):
    keystream = AesKeystream(derive(b"k", "test", b""))
    whole = np.empty(16 * block + size, np.uint8)
    keystream.fill(0, whole)
    piece = np.empty(size, np.uint8)
    keystream.fill(16 * block, piece)
    assert np.array_equal(whole[16 * block :], piece)


def test_a_keystream_is_aes_256_in_counter_mode():
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = bytes(range(32))
    found = np.empty(3_000_000, np.uint8)
    AesKeystream(key).fill(0, found)
    expected = (
        Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(3_000_000))
    )
    assert found.tobytes() == expected


def test_a_keystream_begins_at_whole_blocks():
    with pytest.raises(ValueError, match="multiple of 16"):
        AesKeystream(bytes(32)).fill(8, np.empty(8, np.uint8))
