"""A store behind presigned URLs: all that an edge sees of S3, and all that it may touch.

The URLs come in a JSON file, `{"urls": {"get": {key: url}, "put": {key: url}}}`; the file may hold
more. No URL ever shows in an error: whoever reads one may use it.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TypeVar

from fedloom.artifacts.artifact import Artifact, digest_of, digest_of_file
from fedloom.artifacts.files import NewFile
from fedloom.artifacts.retry import RetryPolicy
from fedloom.artifacts.store import check_digest, check_key
from fedloom.errors import ArtifactNotFoundError, JobError, StoreUnavailableError

Result = TypeVar("Result")

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60.0
# An update may have taken hours to train: a store that is away for minutes must not cost it.
_RETRY = RetryPolicy(attempts=100, base_seconds=0.5, cap_seconds=15.0, total_seconds=180.0)
_DENIED, _ABSENT, _PASSING = (401, 403), 404, (408, 425, 429)


class PresignedStore:
    """The objects that somebody with credentials gave out URLs for; a `Store` without a list.

    Reading checks digests where they are given. A write replaces what is there: whoever made the
    URLs gave every attempt its own keys.
    """

    def __init__(
        self, gets: Mapping[str, str], puts: Mapping[str, str], retry: RetryPolicy = _RETRY
    ) -> None:
        self._urls = {"GET": dict(gets), "PUT": dict(puts)}
        self._retry = retry

    @classmethod
    def of_file(cls, path: Path) -> PresignedStore:
        """Read the URLs from a JSON file. Raises JobError(`InvalidStore`) where it has none."""
        try:
            urls = json.loads(path.read_bytes())["urls"]
            return cls(urls["get"], urls["put"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JobError(
                "InvalidStore",
                f"{path}: got {type(error).__name__}, expected JSON with urls.get and urls.put",
            ) from None

    def __repr__(self) -> str:
        return f"PresignedStore({sorted(self._urls['GET'])}, {sorted(self._urls['PUT'])})"

    @property
    def uri(self) -> str:
        return "presigned://"

    def uri_of(self, key: str) -> str:
        return f"presigned:///{check_key(key)}"

    def put(
        self, key: str, data: bytes, *, replace: bool = False, durable: bool = False
    ) -> Artifact:
        del replace, durable  # S3 keeps what it has acknowledged
        self._exchange("PUT", key, lambda answer: answer.read(), lambda: data)
        return Artifact(key, len(data), digest_of(data))

    def put_file(
        self, key: str, path: Path, *, replace: bool = False, durable: bool = False
    ) -> Artifact:
        del replace, durable
        artifact = Artifact(key, path.stat().st_size, digest_of_file(path))
        self._exchange("PUT", key, lambda answer: answer.read(), lambda: path.open("rb"))
        return artifact

    def get(self, key: str, *, digest: str | None = None) -> bytes:
        data = self._exchange("GET", key, lambda answer: answer.read())
        check_digest(key, digest_of(data), digest)
        return data

    def materialize(self, key: str, folder: Path, *, digest: str | None = None) -> Path:
        target = folder / check_key(key)
        if target.exists() and digest is not None and digest_of_file(target) == digest:
            return target

        def save(answer: IO[bytes]) -> None:
            with NewFile(str(target)) as file:
                while block := answer.read(_BLOCK_BYTES):
                    file.write(block)
                file.publish(replace=True)

        self._exchange("GET", key, save)
        try:
            check_digest(key, digest_of_file(target), digest)
        except JobError:
            target.unlink()
            raise
        return target

    def exists(self, key: str) -> bool:
        try:
            self._exchange("GET", key, lambda answer: answer.read(0))
        except ArtifactNotFoundError:
            return False
        return True

    def read(self, key: str, offset: int, length: int) -> bytes:
        raise self._not_here("read a part of an object")

    def list(self, prefix: str) -> list[str]:
        raise self._not_here("list objects")

    def delete(self, prefix: str) -> None:
        raise self._not_here("delete objects")

    def _not_here(self, what: str) -> JobError:
        return JobError("StoreDenied", f"an edge cannot {what}: it has URLs of single objects only")

    def _exchange(
        self,
        method: str,
        key: str,
        take: Callable[[http.client.HTTPResponse], Result],
        body: Callable[[], bytes | IO[bytes]] | None = None,
    ) -> Result:
        url = self._urls[method].get(check_key(key))
        if url is None:
            raise JobError(
                "StoreDenied",
                f"{method} {key}: no URL for it, only for {sorted(self._urls[method])}",
            )
        return self._retry.run(lambda: _once(method, key, url, take, body))


def _once(
    method: str,
    key: str,
    url: str,
    take: Callable[[http.client.HTTPResponse], Result],
    body: Callable[[], bytes | IO[bytes]] | None,
) -> Result:
    data = body() if body is not None else None
    headers = {"Content-Type": "application/octet-stream"} if data is not None else {}
    if data is not None and not isinstance(data, bytes):
        headers["Content-Length"] = str(Path(data.name).stat().st_size)
    request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            return take(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(method, key, error.code, error.read(500)) from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise StoreUnavailableError(f"{method} {key}: {reason}") from None
    finally:
        if data is not None and not isinstance(data, bytes):
            data.close()


def _refusal(method: str, key: str, code: int, text: bytes) -> Exception:
    if code == _ABSENT:
        return ArtifactNotFoundError(key)
    if code in _DENIED:
        why = (
            "the URL has expired"
            if b"request has expired" in text.lower()
            else "the URL was refused"
        )
        return JobError("StoreDenied", f"{method} {key}: {why} (HTTP {code}); is the clock right?")
    if code in _PASSING or code >= 500:
        return StoreUnavailableError(f"{method} {key}: HTTP {code}")
    return JobError("StoreFailed", f"{method} {key}: HTTP {code}")
