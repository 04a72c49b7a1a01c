"""What an S3 server's answer means: final or passing, in our words. Knows codes, no library."""

from __future__ import annotations

from dataclasses import dataclass

from fedloom.errors import (
    ArtifactError,
    ArtifactNotFoundError,
    CorruptArtifactError,
    FedloomError,
    JobError,
    StoreUnavailableError,
)

_DENIED = {
    "AccessDenied",
    "AuthorizationHeaderMalformed",  # signed for another region
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_FULL = {"XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"}
_PASSING = {
    "BadDigest",  # damaged on the way: the next try sends the bytes again
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",  # these come with a 200 too, inside the answer to a request for many objects
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "XAmzContentSHA256Mismatch",
}


class KeyTakenError(ArtifactError):
    """There is an object under this key already; the conditional write was refused."""


class UploadGoneError(ArtifactError):
    """The multipart upload is not there: it was completed or aborted before."""


@dataclass(frozen=True)
class Answer:
    """A server's refusal: HTTP `status`, S3 error `code` (empty if it gave none), its `message`."""

    status: int
    code: str
    message: str

    def __str__(self) -> str:
        words = ": ".join(word for word in (self.code, self.message.rstrip(".")) if word)
        return f"the server answered {self.status} {words}".rstrip()


def error_of(answer: Answer, place: str, key: str) -> FedloomError:
    """The refusal as the error to raise; `place` names endpoint and bucket, `key` the object."""
    code, status = answer.code, answer.status
    if code in _PASSING or status in (408, 429) or (status >= 500 and status not in (501, 507)):
        return StoreUnavailableError(f"{place}: {answer}")
    if code in _FULL or status == 507:
        return JobError("StoreFull", f"{place}: {answer}; make room there")
    if code in _DENIED or status in (401, 403):
        return JobError(
            "StoreDenied", f"{place}: {answer}; check access key, secret key, their rights, region"
        )
    if code == "NoSuchBucket":
        return JobError("BucketNotFound", f"{place}: there is no such bucket; make it first")
    return _error_of_object(answer, place, key)


def _error_of_object(answer: Answer, place: str, key: str) -> FedloomError:
    code, status = answer.code, answer.status
    if code == "NoSuchUpload":
        return UploadGoneError("UploadGone", f"{place}: {key!r}: {answer}")
    if code == "NoSuchKey" or status == 404:
        return ArtifactNotFoundError(key)
    if status == 412:
        return KeyTakenError("ArtifactExists", f"{place}: {key!r}: {answer}")
    if status == 416:
        return CorruptArtifactError(f"{place}: {key!r} is shorter than expected: {answer}")
    return JobError("StoreFailed", f"{place}: {key!r}: {answer}")
