"""What an API server answers when it does not do what was asked."""

from __future__ import annotations

from fedloom.errors import JobError, TransientError


class ApiUnavailableError(TransientError):
    """The API server cannot be reached, is overloaded or failed; the same call may work later."""


class ConflictError(TransientError):
    """The object exists already, or has changed since it was read."""


class ExpiredError(TransientError):
    """A watch cannot go on from where it was: list again."""


class ForbiddenError(TransientError):
    """The controller's role does not allow this; it works as soon as somebody binds one that does."""


class RefusedError(JobError):
    """The API server does not take the object as it is (schema, admission, size)."""


class EngineUnavailableError(TransientError):
    """What runs the rounds does not answer, or not to us; `reason` is for a condition.

    `is_open`: whether what was asked for may have happened all the same.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        retry_after_seconds: float = 5.0,
        *,
        is_open: bool = False,
    ) -> None:
        super().__init__(message, retry_after_seconds)
        self.reason = reason
        self.is_open = is_open
