"""The tensor signature of a model's file, read from its header alone.

The same word as `fedloom.algorithms.transfer.signature` gives for the arrays; here without numpy, which
the process that tracks does not load.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fedloom.errors import CorruptArtifactError

_LENGTH_BYTES = 8
_LONGEST_BYTES = 100_000_000
_NAMES = {
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "F32": "float32",
    "U32": "uint32",
    "I32": "int32",
    "F16": "float16",
    "BF16": "uint16",
    "U16": "uint16",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def signature_of_file(path: Path) -> str:
    """Give the signature of a safetensors file. Raises CorruptArtifactError for any other, OSError."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > _LONGEST_BYTES:
            raise CorruptArtifactError(f"{path.name}: got a header of {length} bytes")
        data = file.read(length)
    try:
        tensors = {k: v for k, v in json.loads(data).items() if k != "__metadata__"}
        described = [
            [name, _NAMES[tensors[name]["dtype"]], list(tensors[name]["shape"])]
            for name in sorted(tensors)
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifactError(f"{path.name}: got no safetensors header: {error}") from error
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
