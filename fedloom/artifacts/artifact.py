"""What a store gives back for the bytes that it took: a key, a size, a digest."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

BLOCK_BYTES = 1 << 20
_PREFIX = "sha256:"


@dataclass(frozen=True, slots=True)
class Artifact:
    """Bytes under a key of a store.

    `key` is relative to the store, `size_bytes` counts the stored bytes, `digest` is
    `sha256:<64 lower-case hex digits>` of all of them.
    """

    key: str
    size_bytes: int
    digest: str


def digest_of(data: bytes | bytearray | memoryview) -> str:
    """The digest of these bytes, as `sha256:<hex>`."""
    return _PREFIX + hashlib.sha256(data).hexdigest()


def digest_of_file(path: str | os.PathLike[str]) -> str:
    """The digest of a file's content, read in blocks of 1 MiB; raises OSError as `open` does."""
    with open(path, "rb", buffering=0) as file:
        return digest_of_descriptor(file.fileno())


def digest_of_descriptor(descriptor: int) -> str:
    """The digest of an open file from its first byte to its end; the file position stays."""
    sha = hashlib.sha256()
    block = new_block(descriptor)
    view = memoryview(block)
    offset = 0
    while count := os.preadv(descriptor, [block], offset):
        sha.update(view[:count])
        offset += count
    return _PREFIX + sha.hexdigest()


def new_block(descriptor: int) -> bytearray:
    """A buffer to read an open file with: 1 MiB, or less where the whole file is smaller."""
    # Most files of a round are small, and a fresh MiB costs more than reading one of them.
    return bytearray(min(BLOCK_BYTES, max(os.fstat(descriptor).st_size, 4096)))


def digest_of_sha256(hex_digits: str) -> str:
    """A digest from the hex digits that somebody else (a hash object, S3 metadata) holds."""
    return _PREFIX + hex_digits.lower()
