"""Who we are to an object store."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class S3Credentials:
    """An access key and its secrets; the secrets stay out of `repr`, logs and messages."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
