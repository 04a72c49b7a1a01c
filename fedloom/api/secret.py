"""Secret: credentials, as a Kubernetes Secret holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedloom.api.metadata import ObjectMeta

ACCESS_KEY = "ACCESS_KEY_ID"
SECRET_KEY = "SECRET_ACCESS_KEY"  # noqa: S105 -- the name of the entry, not its value


@dataclass(frozen=True, repr=False)
class Secret:
    """Decoded entries by name. The repr shows the names only, and no annotations."""

    metadata: ObjectMeta
    data: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Secret(name={self.metadata.name!r}, keys={sorted(self.data)!r})"
