"""Dataset: data that lies on one node and stays there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedloom.api.declaration import RFC_3339, Declared
from fedloom.api.metadata import ObjectMeta


@dataclass(frozen=True)
class DatasetSpec:
    """Where the data lies."""

    url: Annotated[str, Declared("A path on the node, or an s3:// or http(s):// url.")]
    format: Annotated[str, Declared("How it is written, e.g. txt, csv, dir.")]
    node_name: Annotated[str, Declared("The node that holds it.")]
    credential_name: Annotated[str | None, Declared("The Secret that opens the url.")] = None


@dataclass(frozen=True)
class DatasetObservation:
    """What was seen of the data."""

    number_of_samples: Annotated[int, Declared("How many samples it has.")]
    update_time: Annotated[str | None, Declared("When that was last looked at.", RFC_3339)] = None


@dataclass(frozen=True)
class Dataset:
    """Data of one client."""

    metadata: ObjectMeta
    spec: DatasetSpec
