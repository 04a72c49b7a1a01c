"""Presigned URLs: permission to read or write one object for a while, without any credentials.

The signature covers the host, so URLs are made for the address that the edge sees, which may differ
from this machine's. Signing needs no connection (AWS Signature Version 4, query string form).
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

import minio

from fedloom.artifacts.credentials import S3Credentials
from fedloom.artifacts.store import check_key, check_prefix
from fedloom.errors import JobError

LONGEST_SECONDS = 7 * 24 * 3600
"""S3 takes no URL that is valid for more than seven days."""


class Presigner:
    """Signs URLs of the objects `<prefix>/<key>` of one bucket.

    Args:
        endpoint: `http://host:port` or `https://host` as those see it who will use the URLs.
        bucket, prefix: where the keys lie.
        credentials: whose rights the URLs carry.
        region: of the bucket.

    Raises:
        JobError: `InvalidStore`, for an endpoint or bucket that is none.
    """

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        prefix: str,
        credentials: S3Credentials,
        region: str = "us-east-1",
    ) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise JobError(
                "InvalidStore",
                f"got an edge endpoint of scheme {parts.scheme!r}, expected http://host:port",
            )
        prefix = check_prefix(prefix.strip("/"))
        self._own = f"{prefix}/" if prefix else ""
        self._bucket = bucket
        try:
            self._client = minio.Minio(
                endpoint=parts.netloc,
                access_key=credentials.access_key,
                secret_key=credentials.secret_key,
                session_token=credentials.session_token,
                secure=parts.scheme == "https",
                region=region,
            )
        except ValueError as error:
            raise JobError("InvalidStore", f"{parts.netloc}: {error}") from error

    def get_url(self, key: str, expires_seconds: float) -> str:
        """Give a URL that reads this object until `expires_seconds` from now, seven days at most."""
        try:
            return self._client.presigned_get_object(
                bucket_name=self._bucket,
                object_name=self._name(key),
                expires=_span(expires_seconds),
            )
        except ValueError as error:  # of a bucket's name, which is looked at only now
            raise JobError("InvalidStore", f"s3://{self._bucket}/{key}: {error}") from error

    def put_url(self, key: str, expires_seconds: float) -> str:
        """Give a URL that writes this object in one piece of at most 5 GB."""
        try:
            return self._client.presigned_put_object(
                bucket_name=self._bucket,
                object_name=self._name(key),
                expires=_span(expires_seconds),
            )
        except ValueError as error:
            raise JobError("InvalidStore", f"s3://{self._bucket}/{key}: {error}") from error

    def _name(self, key: str) -> str:
        return self._own + check_key(key)


def _span(seconds: float) -> timedelta:
    return timedelta(seconds=int(min(max(seconds, 1), LONGEST_SECONDS)))
