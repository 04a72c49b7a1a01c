"""What goes wrong beyond the door, in one word and without credentials."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from fedloom.errors import FedloomError, TrackingUnavailableError
from fedloom.tracking import vocabulary

_MESSAGE_LIMIT = 400


class Addressed(Protocol):
    """Whoever has an address that may be shown."""

    address: str


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Addressed)


def outages(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Turn whatever MLflow raises into TrackingUnavailableError.

    Everything, because a broken database, a refused connection and a wrong answer come as errors of
    four libraries, and all mean the same to a job: not now.
    """

    @functools.wraps(method)
    def translated(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except FedloomError:
            raise
        except Exception as error:
            text = vocabulary.without_credentials(_root_of(error))
            message = f"MLflow at {self.address}: {vocabulary.cut(text, _MESSAGE_LIMIT)}"
            raise TrackingUnavailableError(message) from error

    return translated


def _root_of(error: BaseException) -> str:
    """The operating system's word where there is one, under all that libraries wrapped around it."""
    root, inner = error, error.__cause__ or error.__context__
    while inner is not None:
        if isinstance(inner, OSError) and inner.errno is not None:
            root = inner
        inner = inner.__cause__ or inner.__context__
    return f"{type(root).__name__}: {root}"
