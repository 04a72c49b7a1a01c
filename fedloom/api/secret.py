"""Secret: credentials, as a Kubernetes Secret holds them.

Sedna's names come first; those of KServe and of the AWS tools mean the same:

    annotation  s3-endpoint           serving.kserve.io/s3-endpoint    host, or host:port
    annotation  s3-usehttps           serving.kserve.io/s3-usehttps    "0" is http, else https
    annotation  s3-region             serving.kserve.io/s3-region
    annotation  s3-external-endpoint  s3-edge-endpoint                 the same store as edges see it
    entry       ACCESS_KEY_ID         AWS_ACCESS_KEY_ID
    entry       SECRET_ACCESS_KEY     AWS_SECRET_ACCESS_KEY
    entry                             AWS_SESSION_TOKEN
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedloom.api.metadata import ObjectMeta

ACCESS_KEY = "ACCESS_KEY_ID"
SECRET_KEY = "SECRET_ACCESS_KEY"  # noqa: S105 -- the name of the entry, not its value
SESSION_TOKEN = "AWS_SESSION_TOKEN"  # noqa: S105 -- likewise

_AWS, _KSERVE = "AWS_", "serving.kserve.io/"
_ANNOTATIONS: Mapping[str, tuple[str, ...]] = {
    "endpoint": ("s3-endpoint", f"{_KSERVE}s3-endpoint"),
    "usehttps": ("s3-usehttps", f"{_KSERVE}s3-usehttps"),
    "region": ("s3-region", f"{_KSERVE}s3-region"),
    "external-endpoint": ("s3-external-endpoint", "s3-edge-endpoint"),
}


@dataclass(frozen=True, repr=False)
class Secret:
    """Decoded entries by name. The repr shows the names only, and no annotations."""

    metadata: ObjectMeta
    data: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Secret(name={self.metadata.name!r}, keys={sorted(self.data)!r})"

    def entry_of(self, key: str) -> str | None:
        """Give the name under which this Secret has ACCESS_KEY or SECRET_KEY, if it has it at all."""
        return next((name for name in (key, _AWS + key) if self.data.get(name)), None)

    @property
    def lacking(self) -> tuple[str, ...]:
        """What it lacks to open an S3 store, by Sedna's names."""
        return tuple(key for key in (ACCESS_KEY, SECRET_KEY) if self.entry_of(key) is None)

    def annotation(self, meaning: str) -> str:
        """Give the annotation for `endpoint`, `usehttps`, `region` or `external-endpoint`, or nothing."""
        found = (self.metadata.annotations.get(name) for name in _ANNOTATIONS[meaning])
        return next(filter(None, found), "")
