"""A store in an S3 bucket: the one importer of minio (and of urllib3 below it).

Writes go through minio's underscored calls: the public `put_object` can neither send
`If-None-Match` nor repeat one failed part, and leaves its parts behind when the connection breaks.
That holds as long as minio stays below 8.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from xml.etree import ElementTree as ET

import certifi
import minio
import urllib3
from minio.datatypes import CompleteMultipartUploadResult
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, S3Error, ServerError
from minio.helpers import check_bucket_name
from minio.xml import Element, SubElement, getbytes

from fedloom.artifacts.artifact import Artifact, digest_of_sha256
from fedloom.artifacts.credentials import S3Credentials
from fedloom.artifacts.objects import Head, ObjectStore
from fedloom.artifacts.s3_errors import Answer, UploadGoneError, error_of
from fedloom.artifacts.store import check_key, check_prefix
from fedloom.artifacts.transfer import STANDARD, Span, Transfer
from fedloom.errors import (
    ArtifactError,
    ArtifactNotFoundError,
    JobError,
    StoreUnavailableError,
)

__all__ = ["S3Credentials", "S3Store"]

Result = TypeVar("Result")
Names = list[str]

_NAME_LIMIT_BYTES = 1024
_SHA256 = "X-Amz-Meta-Sha256"


class S3Store(ObjectStore):
    """Artifacts as objects `<prefix>/<key>` of a bucket that exists.

    `endpoint` is host:port as this machine sees it, `secure` means TLS (authorities: certifi's, or
    the file that SSL_CERT_FILE names). Each object carries its SHA-256 as user metadata.
    Overwriting is refused by the server (`If-None-Match: *`), also between two writers at once.
    """

    def __init__(  # noqa: PLR0913 (what S3 needs to be told; all but four have a default)
        self,
        endpoint: str,
        bucket: str,
        prefix: str,
        credentials: S3Credentials,
        region: str = "us-east-1",
        secure: bool = False,
        *,
        transfer: Transfer = STANDARD,
    ) -> None:
        place = f"{endpoint}, bucket {bucket!r}"
        try:
            check_bucket_name(bucket)
            client = minio.Minio(
                endpoint=endpoint,
                access_key=credentials.access_key,
                secret_key=credentials.secret_key,
                session_token=credentials.session_token,
                secure=secure,
                region=region,
                http_client=_connections(transfer),
            )
        except ValueError as error:
            raise JobError("InvalidStore", f"{place}: {error}") from error
        super().__init__(_Requests(client, bucket, prefix, place, transfer), transfer)

    def __repr__(self) -> str:
        return f"S3Store({self.uri!r})"


class _Requests:
    """The requests that `ObjectStore` makes, by minio; its errors become ours here."""

    def __init__(
        self, client: minio.Minio, bucket: str, prefix: str, place: str, transfer: Transfer
    ) -> None:
        self._client = client
        self._bucket = bucket
        prefix = check_prefix(prefix.strip("/"))
        self._own = f"{prefix}/" if prefix else ""
        self._place = place
        self._retry = transfer.retry
        self._bucket_seen = False

    @property
    def uri(self) -> str:
        return f"s3://{self._bucket}/{self._own}".rstrip("/")

    def head(self, key: str) -> Head:
        name = self._name(key)

        def attempt() -> Head:
            found = self._client.stat_object(bucket_name=self._bucket, object_name=name)
            return Head(found.size or 0, found.etag or "", _digest_in(found.metadata))

        try:
            return self._call(attempt, key)
        except ArtifactNotFoundError:
            self._check_bucket()
            raise

    def get(self, key: str) -> tuple[bytes, str | None]:
        name = self._name(key)

        def attempt() -> tuple[bytes, str | None]:
            response = self._client.get_object(bucket_name=self._bucket, object_name=name)
            return _content_of(response), _digest_in(response.headers)

        return self._call(attempt, key)

    def get_span(self, key: str, span: Span, etag: str | None) -> bytes:
        name = self._name(key)

        def attempt() -> bytes:
            response = self._client.get_object(
                bucket_name=self._bucket,
                object_name=name,
                offset=span.offset,
                length=span.length,
                request_headers={"If-Match": f'"{etag}"'} if etag else None,
            )
            return _content_of(response)

        return self._call(attempt, key)

    def put(self, artifact: Artifact, data: bytes, *, replace: bool) -> None:
        name = self._name(artifact.key)

        def attempt() -> None:
            headers = {**_headers_of(artifact), **_condition(replace)}
            self._client._put_object(self._bucket, name, data, headers)

        self._call(attempt, artifact.key)

    def begin(self, artifact: Artifact) -> str:
        name = self._name(artifact.key)

        def attempt() -> str:
            headers = _headers_of(artifact)
            return self._client._create_multipart_upload(self._bucket, name, headers)

        return self._call(attempt, artifact.key)

    def send(self, key: str, upload: str, number: int, data: bytes) -> str:
        name = self._name(key)
        return self._call(
            lambda: self._client._upload_part(self._bucket, name, data, None, upload, number), key
        )

    def complete(self, key: str, upload: str, etags: Names, *, replace: bool) -> None:
        name = self._name(key)
        root = Element("CompleteMultipartUpload")
        for number, etag in enumerate(etags, start=1):
            part = SubElement(root, "Part")
            SubElement(part, "PartNumber", str(number))
            SubElement(part, "ETag", f'"{etag}"')

        def attempt() -> None:
            response = self._client._execute(
                "POST",
                self._bucket,
                name,
                body=getbytes(root),
                headers={"Content-Type": "application/xml", **_condition(replace)},
                query_params={"uploadId": upload},
            )
            # S3 may answer 200 at once and say in the body, later, that it failed.
            if not CompleteMultipartUploadResult(response).etag:
                raise StoreUnavailableError(f"{self._place}: {key!r} was not completed")

        self._call(attempt, key)

    def abort(self, key: str, upload: str) -> None:
        name = self._name(key)
        try:
            self._call(
                lambda: self._client._abort_multipart_upload(self._bucket, name, upload), key
            )
        except UploadGoneError:
            return

    def list(self, beginning: str) -> Names:
        def attempt() -> Names:
            found = self._client.list_objects(
                bucket_name=self._bucket, prefix=self._own + beginning, recursive=True
            )
            return [str(entry.object_name).removeprefix(self._own) for entry in found]

        return self._call(attempt, beginning)

    def delete(self, keys: Sequence[str]) -> None:
        def attempt() -> None:
            doomed = [DeleteObject(self._own + key) for key in keys]
            refused = self._client.remove_objects(
                bucket_name=self._bucket, delete_object_list=doomed
            )
            for refusal in list(refused):
                answer = Answer(200, refusal.code, refusal.message or "")
                raise error_of(answer, self._place, refusal.name or "")

        self._call(attempt, "")

    def _name(self, key: str) -> str:
        name = self._own + check_key(key)
        if len(name.encode()) > _NAME_LIMIT_BYTES:
            raise ArtifactError(
                "InvalidKey",
                f"{name[:120]!r}...: got {len(name.encode())} bytes with the store's prefix, "
                f"expected at most {_NAME_LIMIT_BYTES}",
            )
        return name

    def _check_bucket(self) -> None:
        # To a HEAD a missing bucket and a missing object look the same: ask once for the bucket.
        if self._bucket_seen:
            return
        if not self._call(lambda: self._client.bucket_exists(bucket_name=self._bucket), ""):
            raise error_of(Answer(404, "NoSuchBucket", ""), self._place, "")
        self._bucket_seen = True

    def _call(self, attempt: Callable[[], Result], key: str) -> Result:
        def translated() -> Result:
            try:
                return attempt()
            except (S3Error, ServerError, InvalidResponseError) as error:
                raise error_of(_answer_in(error), self._place, key) from error
            except (urllib3.exceptions.HTTPError, OSError, ET.ParseError) as error:
                words = f"{self._place}: {type(error).__name__}: {error}"
                if "CERTIFICATE_VERIFY_FAILED" in words:
                    raise JobError("StoreDenied", words) from error
                raise StoreUnavailableError(words) from error

        return self._retry.run(translated)


def _answer_in(error: S3Error | ServerError | InvalidResponseError) -> Answer:
    if isinstance(error, S3Error):
        return Answer(error.response.status, error.code or "", error.message or "")
    if isinstance(error, ServerError):
        return Answer(error.status_code, "", "")
    return Answer(error._code, "", "not in XML: is this an S3 server?")


def _condition(replace: bool) -> dict[str, str]:
    return {} if replace else {"If-None-Match": "*"}


def _headers_of(artifact: Artifact) -> dict[str, Any]:
    # A new mapping for each request: minio writes the signature into it.
    sha256_hex = artifact.digest.removeprefix("sha256:")
    return {"Content-Type": "application/octet-stream", _SHA256: sha256_hex}


def _digest_in(headers: Any) -> str | None:
    sha256_hex = headers.get(_SHA256) if headers else None
    return digest_of_sha256(sha256_hex) if sha256_hex else None


def _content_of(response: Any) -> bytes:
    """All bytes of an answer; its connection is used again only if it was read to the end."""
    try:
        data: bytes = response.read()
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return data


def _connections(transfer: Transfer) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        timeout=urllib3.Timeout(
            connect=transfer.connect_timeout_seconds, read=transfer.read_timeout_seconds
        ),
        retries=False,  # our policy counts, waits and names the failure
        maxsize=transfer.parallel + 1,
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
    )
