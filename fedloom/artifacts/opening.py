"""From an address to the store behind it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from fedloom.artifacts.credentials import S3Credentials
from fedloom.artifacts.local import LocalStore
from fedloom.artifacts.store import Store
from fedloom.errors import JobError

if TYPE_CHECKING:
    from fedloom.artifacts.retry import RetryPolicy

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL", "S3_ENDPOINT_URL")
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


def open_store(
    uri: str,
    credentials: S3Credentials | None = None,
    endpoint: str | None = None,
    retry: RetryPolicy | None = None,
) -> Store:
    """The store at `file:///folder`, a plain path, `s3://bucket/prefix`, or the one whose URLs are in
    a file, `presigned:///path/of/file.json`. Nothing is contacted.

    For S3 the `endpoint` (`http://host:port` or `https://...`) defaults to AWS_ENDPOINT_URL, then
    S3_ENDPOINT_URL; the credentials to AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with
    AWS_SESSION_TOKEN where set); the region is AWS_REGION, AWS_DEFAULT_REGION or us-east-1; `retry` is
    how an S3 store that does not answer is tried again, for a few seconds if left out.
    Raises JobError (reason `InvalidStore`) for anything else or where something is missing.
    """
    scheme, mark, rest = uri.partition("://")
    if not mark:
        if not uri:
            raise JobError("InvalidStore", "got an empty address, expected a folder or s3://...")
        return LocalStore(Path(uri))
    if scheme == "file":
        return LocalStore(_path_of(uri))
    if scheme == "presigned":
        from fedloom.artifacts.presigned import PresignedStore  # an HTTP client costs start-up time

        return PresignedStore.of_file(Path(rest))
    if scheme == "s3":
        return _open_s3(rest, credentials or _credentials_here(), _endpoint(endpoint), retry)
    raise JobError(
        "InvalidStore", f"got {uri!r}, expected file:///folder, a path or s3://bucket/prefix"
    )


def _path_of(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or not parts.path or parts.query or parts.fragment:
        raise JobError("InvalidStore", f"got {uri!r}, expected file:///folder")
    return Path(unquote(parts.path))


def _open_s3(
    rest: str, credentials: S3Credentials, endpoint: str, retry: RetryPolicy | None
) -> Store:
    from fedloom.artifacts.s3 import S3Store  # minio costs start-up time
    from fedloom.artifacts.transfer import STANDARD

    bucket, _, prefix = rest.partition("/")
    parts = urlsplit(endpoint)
    return S3Store(
        endpoint=parts.netloc,
        bucket=bucket,
        prefix=prefix,
        credentials=credentials,
        region=_first_set(_REGION_VARIABLES) or "us-east-1",
        secure=parts.scheme == "https",
        transfer=STANDARD if retry is None else replace(STANDARD, retry=retry),
    )


def _endpoint(given: str | None) -> str:
    endpoint = given or _first_set(_ENDPOINT_VARIABLES)
    if not endpoint:
        raise JobError(
            "InvalidStore",
            f"no S3 endpoint: set {_ENDPOINT_VARIABLES[0]}, such as http://minio:9000 "
            "or https://s3.amazonaws.com",
        )
    parts = urlsplit(endpoint)
    if "@" in parts.netloc:  # not shown: it may hold a password
        raise JobError("InvalidStore", "the S3 endpoint holds credentials, expected host and port")
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise JobError(
            "InvalidStore", f"got the S3 endpoint {endpoint!r}, expected http://host:9000"
        )
    return endpoint


def _credentials_here() -> S3Credentials:
    access_key = os.environ.get("AWS_ACCESS_KEY_ID")
    secret_key = os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        raise JobError(
            "InvalidStore", "no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return S3Credentials(access_key, secret_key, os.environ.get("AWS_SESSION_TOKEN") or None)


def _first_set(variables: tuple[str, ...]) -> str | None:
    return next((value for name in variables if (value := os.environ.get(name))), None)
