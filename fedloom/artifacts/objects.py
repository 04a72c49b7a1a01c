"""A store over a bucket of objects: digests, parts, nothing overwritten. Knows no S3 library."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from fedloom.artifacts.artifact import Artifact, digest_of, digest_of_file, digest_of_sha256
from fedloom.artifacts.files import NewFile, disk_error
from fedloom.artifacts.s3_errors import KeyTakenError, UploadGoneError
from fedloom.artifacts.store import check_digest, check_key, check_prefix
from fedloom.artifacts.transfer import Span, Transfer
from fedloom.errors import (
    ArtifactError,
    ArtifactNotFoundError,
    CorruptArtifactError,
    JobError,
    StoreUnavailableError,
    TransientError,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Head:
    """What is known of an object before it is read.

    `etag` ties several requests to one object; `digest` is None if no Store wrote the object.
    """

    size_bytes: int
    etag: str
    digest: str | None


class Bucket(Protocol):
    """The requests of an object store, each sent again after passing failures.

    Keys are relative to the bucket's own prefix. A write with `replace=False` raises KeyTakenError
    where there is an object already; a read of none raises ArtifactNotFoundError.
    """

    @property
    def uri(self) -> str: ...

    def head(self, key: str) -> Head: ...

    def get(self, key: str) -> tuple[bytes, str | None]:
        """All bytes and the digest that the object carries."""
        ...

    def get_span(self, key: str, span: Span, etag: str | None) -> bytes:
        """The bytes of a span that is not empty; KeyTakenError if the object is not `etag`'s."""
        ...

    def put(self, artifact: Artifact, data: bytes, *, replace: bool) -> None: ...

    def begin(self, artifact: Artifact) -> str:
        """Begin an upload in parts; returns its id."""
        ...

    def send(self, key: str, upload: str, number: int, data: bytes) -> str:
        """Send one part; returns its ETag."""
        ...

    def complete(self, key: str, upload: str, etags: list[str], *, replace: bool) -> None:
        """Make one object of all parts, in the order of the ETags."""
        ...

    def abort(self, key: str, upload: str) -> None: ...

    def list(self, beginning: str) -> list[str]:
        """The keys that begin with these letters, in any order."""
        ...

    def delete(self, keys: Sequence[str]) -> None: ...


class ObjectStore:
    """Artifacts as the objects of a bucket.

    Each object carries its digest; every whole read is checked against it and against the
    reader's. What is above `transfer.part_bytes` travels in parts, several at once.
    """

    def __init__(self, bucket: Bucket, transfer: Transfer) -> None:
        self._bucket = bucket
        self._transfer = transfer

    @property
    def uri(self) -> str:
        return self._bucket.uri

    def uri_of(self, key: str) -> str:
        return f"{self.uri}/{check_key(key)}"

    def put(
        self, key: str, data: bytes, *, replace: bool = False, durable: bool = False
    ) -> Artifact:
        artifact = Artifact(check_key(key), len(data), digest_of(data))
        self._upload(artifact, lambda span: data[span.offset : span.offset + span.length], replace)
        return artifact

    def put_file(
        self, key: str, path: Path, *, replace: bool = False, durable: bool = False
    ) -> Artifact:
        check_key(key)
        try:
            with open(path, "rb", buffering=0) as file:
                source = file.fileno()
                artifact = Artifact(key, os.fstat(source).st_size, digest_of_file(path))
                self._upload(
                    artifact, lambda span: os.pread(source, span.length, span.offset), replace
                )
        except OSError as error:
            raise disk_error(error, path) from error
        return artifact

    def get(self, key: str, *, digest: str | None = None) -> bytes:
        data, own = self._bucket.get(check_key(key))
        self._check(key, digest_of(data), own, digest)
        return data

    def materialize(self, key: str, folder: Path, *, digest: str | None = None) -> Path:
        head = self._bucket.head(check_key(key))
        target = Path(folder).absolute() / key
        with NewFile(str(target), head.size_bytes) as file:
            got = self._download(key, head, file.write)
            self._check(key, got, head.digest, digest)
            file.publish(replace=True)
        return target

    def read(self, key: str, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise ValueError(f"got offset {offset}, length {length}, expected neither below 0")
        if length:
            return self._get_span(check_key(key), Span(1, offset, length))
        self._bucket.head(check_key(key))  # to S3 an empty range would mean everything
        return b""

    def exists(self, key: str) -> bool:
        try:
            self._bucket.head(check_key(key))
        except ArtifactNotFoundError:
            return False
        return True

    def list(self, prefix: str) -> list[str]:
        return sorted(self._keys_below(check_prefix(prefix)))

    def delete(self, prefix: str) -> None:
        prefix = check_prefix(prefix)
        if not prefix:
            raise ArtifactError(
                "InvalidKey", f"delete: got an empty prefix, would empty {self.uri}"
            )
        self._bucket.delete(list(self._keys_below(prefix)))

    def _keys_below(self, prefix: str) -> Iterator[str]:
        # One request without the closing slash, so that it finds the key itself as well.
        for key in self._bucket.list(prefix):
            if not prefix or key == prefix or key.startswith(f"{prefix}/"):
                yield key

    def _check(self, key: str, got: str, own: str | None, expected: str | None) -> None:
        check_digest(f"{self.uri_of(key)} (against its own metadata)", got, own)
        check_digest(self.uri_of(key), got, expected)

    def _get_span(self, key: str, span: Span, etag: str | None = None) -> bytes:
        data = self._bucket.get_span(key, span, etag)
        if len(data) != span.length:
            raise CorruptArtifactError(
                f"{self.uri_of(key)}: got {len(data)} bytes from offset {span.offset}, "
                f"expected {span.length}"
            )
        return data

    def _download(self, key: str, head: Head, take: Callable[[bytes], object]) -> str:
        """Hand all bytes to `take`, in order; returns their digest."""
        sha = sha256()

        def fetch(span: Span) -> bytes:
            return self._get_span(key, span, head.etag) if span.length else b""

        try:
            for data in self._transfer.in_order(fetch, self._transfer.spans(head.size_bytes)):
                sha.update(data)
                take(data)
        except KeyTakenError as error:
            raise StoreUnavailableError(f"{self.uri_of(key)} was replaced while read") from error
        return digest_of_sha256(sha.hexdigest())

    def _upload(self, artifact: Artifact, read: Callable[[Span], bytes], replace: bool) -> None:
        def read_whole(span: Span) -> bytes:
            data = read(span)
            if len(data) != span.length:
                raise CorruptArtifactError(f"{artifact.key}: the file changed while it was sent")
            return data

        spans = self._transfer.spans(artifact.size_bytes)
        try:
            if len(spans) == 1:
                self._bucket.put(artifact, read_whole(spans[0]), replace=replace)
            elif replace or not self.exists(artifact.key):
                self._upload_parts(artifact, read_whole, replace)
            else:  # not worth sending it all to hear that in the end
                self._refuse_other_bytes(artifact)
        except KeyTakenError:
            self._refuse_other_bytes(artifact)

    def _upload_parts(
        self, artifact: Artifact, read: Callable[[Span], bytes], replace: bool
    ) -> None:
        key = artifact.key
        upload = self._bucket.begin(artifact)

        def send(span: Span) -> str:
            return self._bucket.send(key, upload, span.number, read(span))

        try:
            spans = self._transfer.spans(artifact.size_bytes)
            etags = list(self._transfer.in_order(send, spans))
            self._bucket.complete(key, upload, etags, replace=replace)
        except UploadGoneError:
            # If it was the answer to an earlier try that got lost, the object is there, and ours.
            if self._digest_there(key) != artifact.digest:
                raise
        except BaseException:
            self._abort(key, upload)
            raise

    def _abort(self, key: str, upload: str) -> None:
        try:
            self._bucket.abort(key, upload)
        except (JobError, TransientError) as error:
            # The upload's own error matters more; servers drop unfinished parts after a while.
            _log.warning("%s: parts are left behind: %s", self.uri_of(key), error)

    def _refuse_other_bytes(self, artifact: Artifact) -> None:
        there = self._digest_there(artifact.key)
        if there != artifact.digest:
            raise ArtifactError(
                "ArtifactExists",
                f"{self.uri_of(artifact.key)} holds other bytes already: got {artifact.digest}, "
                f"there is {there}; artifacts are never overwritten",
            )

    def _digest_there(self, key: str) -> str | None:
        """The digest of the object that there is now, None if there is none."""
        try:
            head = self._bucket.head(key)
        except ArtifactNotFoundError:
            return None
        return head.digest or self._download(key, head, lambda data: None)
