"""What a model looks like, as one word: models with equal signatures fit into each other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection

from fedloom.algorithms.layout import Layout


def tensor_signature(layout: Layout) -> str:
    """Give `sha256:<64 hex digits>` of all names, shapes and dtypes; values do not matter.

    The order of the layout does not matter either, nor does the byte order of a dtype. It stays the
    same from version to version: registries keep it as a tag.
    """
    described = [
        [name, layout[name].dtype.newbyteorder("=").name, list(layout[name].shape)]
        for name in sorted(layout)
    ]
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def body_signature(layout: Layout, head: Collection[str]) -> str:
    """Give the signature of all but the head: equal for models that differ in their labels only."""
    return tensor_signature({name: spec for name, spec in layout.items() if name not in head})
