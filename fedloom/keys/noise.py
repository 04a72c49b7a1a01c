"""Noise that only one edge can draw, and draws the same again: a keystream for each release of an image.

The key of an edge, 32 random bytes that never leave it, gives by HKDF a key for every **occasion**:
what is released, of which image, made how. The same occasion has the same noise, so a retry releases
the same bits (else an average over retries would wash the noise out); any other one has noise that is
independent of it for everybody without the key.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np

from fedloom.errors import JobError
from fedloom.keys.agreement import KEY_BYTES, derive
from fedloom.keys.keystream import AesKeystream

IDENTIFIER_BYTES = 16

_BLOCK_BYTES = 16
_PREFIX = "sha256:"
_NOISE, _IDENTIFIER, _FINGERPRINT = (
    f"mistnet {each} 1" for each in ("noise", "identifier", "fingerprint")
)


@dataclass(frozen=True)
class Occasion:
    """A release of one image.

    Attributes:
        image: digest of its file's bytes, `sha256:<hex>`.
        extractor: digest of all that decides about its features: weights, cut, preprocessing.
        shape: of the features.
        flips: how many of 2**32 coins turn a bit: the epsilon, as the mechanism has it.
    """

    image: str
    extractor: str
    shape: tuple[int, ...]
    flips: int

    @property
    def session(self) -> bytes:
        """The same bytes for equal occasions only."""
        parts = (self.flips, len(self.shape), *self.shape)
        return _raw(self.image) + _raw(self.extractor) + struct.pack(f">{len(parts)}Q", *parts)


class NoiseKey:
    """The key of an edge. Its bytes are in no repr. Raises JobError `InvalidKey` for other than 32."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise JobError(
                "InvalidKey", f"got a noise key of {len(secret)} bytes, expected {KEY_BYTES}"
            )
        self._secret = secret

    @property
    def fingerprint(self) -> str:
        """What tells keys apart and tells nothing about them: 64 hex digits."""
        return derive(self._secret, _FINGERPRINT, b"").hex()

    def noise(self, occasion: Occasion) -> NoiseStream:
        """Give the noise of an occasion, from its first byte on."""
        return NoiseStream(AesKeystream(derive(self._secret, _NOISE, occasion.session)))

    def identifier(self, occasion: Occasion) -> bytes:
        """Name an occasion by 16 bytes in which nobody without the key can find the image again."""
        return derive(self._secret, _IDENTIFIER, occasion.session)[:IDENTIFIER_BYTES]


class NoiseStream:
    """A keystream read from its start on: called with a number of bytes, it gives the next ones."""

    def __init__(self, keystream: AesKeystream) -> None:
        self._keystream = keystream
        self._position = 0

    def __call__(self, count: int) -> bytes:
        within = self._position % _BLOCK_BYTES
        out = np.empty(within + count, np.uint8)
        self._keystream.fill(self._position - within, out)
        self._position += count
        return out[within:].tobytes()


def _raw(digest: str) -> bytes:
    try:
        raw = bytes.fromhex(digest.removeprefix(_PREFIX))
    except ValueError:
        raw = b""
    if len(raw) != hashlib.sha256().digest_size or not digest.startswith(_PREFIX):
        raise JobError("InvalidDigest", f"got {digest[:80]!r}, expected sha256:<64 hex digits>")
    return raw
