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
