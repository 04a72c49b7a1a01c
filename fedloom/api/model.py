"""Model: a file of weights, to start from or to write to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedloom.api.declaration import RFC_3339, Declared
from fedloom.api.metadata import ObjectMeta


@dataclass(frozen=True)
class ModelSpec:
    """Where the weights are."""

    url: Annotated[str, Declared("A path, or an s3:// or http(s):// url.")]
    format: Annotated[str, Declared("How it is written, e.g. safetensors, npz, pth, ckpt, pb.")]
    device_soc_versions: Annotated[
        tuple[str, ...],
        Declared("The chips it was compiled for.", name="device_soc_versions"),
    ] = ()
    credential_name: Annotated[str | None, Declared("The Secret that opens the url.")] = None


@dataclass(frozen=True)
class ModelMetric:
    """One metric of a model."""

    key: Annotated[str, Declared("The metric's name.")]
    value: Annotated[str, Declared("Its value, as text.")]


@dataclass(frozen=True)
class ModelObservation:
    """What is known of the weights."""

    update_time: Annotated[str | None, Declared("When they were last written.", RFC_3339)] = None
    metrics: Annotated[tuple[ModelMetric, ...], Declared("How good they are.")] = ()


@dataclass(frozen=True)
class Model:
    """A model's weights."""

    metadata: ObjectMeta
    spec: ModelSpec
