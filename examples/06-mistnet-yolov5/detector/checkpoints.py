"""Networks in files: written as safetensors, read from safetensors or from a torch state dict.

What a file is, its first bytes say; its name does not matter. Nothing that is read can run code: a
pickled module, as other projects publish them, is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # the name of torch's refusal; nothing is unpickled with it
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.errors import ArtifactError, ArtifactNotFoundError, UpdateError
from fedloom.training.torch import load_weights, weights_of

from .network import LAYOUTS, WIDTHS, Extractor, Layers, Network, Shape, channels_of, rows

Arrays = Mapping[str, np.ndarray[Any, Any]]
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_ANCHOR_SCALE = "anchor_scale"


def write_network(path: Path, network: Layers) -> None:
    """Write a network, or a part of one, as safetensors; what it is stands in the metadata."""
    shape = network.shape
    metadata = {
        "network": "yolov5",
        "size": shape.size,
        "classes": str(shape.classes),
        "layout": shape.layout,
        _ANCHOR_SCALE: repr(shape.anchor_scale),
        "layers": f"{network.first}-{network.end}",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}-unfinished")
    unfinished.write_bytes(dump_arrays(weights_of(network), metadata))
    unfinished.replace(path)


def read_network(path: Path, anchor_scale: float | None = None) -> Network:
    """A whole network with the weights of a file, in eval mode.

    Size, number of classes and layout are seen from its tensors. The scale of its anchors is the
    file's, or `anchor_scale` where it does not say, or 1.

    Raises ArtifactError as `read_state`, and UpdateError (MissingTensor, UnexpectedTensor ...) where
    the tensors are not those of a whole network.
    """
    arrays, metadata = read_state(path)
    scale = float(metadata.get(_ANCHOR_SCALE, anchor_scale or 1.0))
    try:
        network = Network(shape_of(arrays, scale))
        load_weights(network, arrays)
    except UpdateError as error:
        raise UpdateError(error.reason, f"{path}: {error.message}") from None
    return network.eval()


def read_extractor(path: Path, shape: Shape, cut_layer: int) -> Extractor:
    """An extractor with the weights of a file: of its own, or of a network that has it.

    Raises as `read_network`, and ValueError for a cut outside 1..5.
    """
    arrays, _ = read_state(path)
    extractor = Extractor(shape, cut_layer)
    wanted = extractor.state_dict().keys()
    held = {name: array for name, array in arrays.items() if name in wanted}
    try:
        load_weights(extractor, held)
    except UpdateError as error:
        raise UpdateError(error.reason, f"{path}: {error.message}") from None
    return extractor.eval()


def read_state(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """The tensors of a file by name as arrays, and its metadata (none in a torch file).

    Raises ArtifactNotFoundError; CorruptArtifactError for a broken safetensors file; ArtifactError
    `UnsupportedCheckpoint` for a torch file that holds anything but tensors by name.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError:
        raise ArtifactNotFoundError(str(path)) from None
    if start.startswith((_ZIP, _PICKLE)):
        return _read_torch(path), {}
    return load_arrays(path)


def shape_of(arrays: Arrays, anchor_scale: float = 1.0) -> Shape:
    """Which network these tensors are of.

    Raises UpdateError("UnknownNetwork") where they are of none that there is here.
    """
    layout = "v5" if "layers.0.conv.conv.weight" in arrays else "v6"
    head = f"layers.{len(rows(layout))}.convolutions.0.weight"
    second = "layers.1.conv.weight"
    if head not in arrays or second not in arrays:
        names = ", ".join(sorted(arrays)[:3])
        raise UpdateError(
            "UnknownNetwork",
            f"got {len(arrays)} tensors ({names} ...), expected {second} and {head} among them: "
            "the file is of another network, or of a part of one",
        )
    width = len(arrays[second])
    for size in WIDTHS:
        classes = len(arrays[head]) // 3 - 5
        if classes >= 1 and channels_of(Shape(size))[1] == width:
            return Shape(size, classes, layout, anchor_scale)
    raise UpdateError(
        "UnknownNetwork",
        f"{second}: got {width} channels, expected those of {', '.join(WIDTHS)} in {LAYOUTS}",
    )


def _read_torch(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise _unsupported(path, "code besides tensors (a pickled module?)") from error
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise _unsupported(path, "a broken torch file") from error
    if not isinstance(content, Mapping) or not content:
        raise _unsupported(path, f"a {type(content).__name__}")
    arrays = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise _unsupported(path, f"{name!r}: a {type(value).__name__}")
        if value.layout != torch.strided or value.dtype == torch.bfloat16:
            raise _unsupported(path, f"{name!r}: a {value.layout} tensor of {value.dtype}")
        arrays[name] = value.detach().contiguous().numpy()
    return arrays


def _unsupported(path: Path, got: str) -> ArtifactError:
    return ArtifactError(
        "UnsupportedCheckpoint",
        f"{path}: got {got}, expected a state dict: tensors by name and nothing else, as "
        "`torch.save(module.state_dict(), ...)` or safetensors write it",
    )
