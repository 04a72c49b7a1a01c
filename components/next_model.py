"""The next global model and the server optimizer's state, written block by block beside the old ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import numpy as np

from components.request import Place, Request
from components.update_file import Array
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Layout, TensorSpec, accumulator_dtype
from fedloom.algorithms.optimizers.casting import to_dtype
from fedloom.algorithms.optimizers.protocol import ServerOptimizer
from fedloom.algorithms.optimizers.registry import tensor_optimizer
from fedloom.artifacts.arrays import ArrayFile, ArrayFileWriter
from fedloom.artifacts.artifact import Artifact

_NOTHING: Layout = {}
_FROM_THE_BEGINNING: Mapping[str, int] = {}
_MEMORY_BYTES = 4 * 1024 * 1024  # a model up to this size is assembled in memory, not on disk


@contextmanager
def open_model(request: Request, place: Place) -> Iterator[ArrayFile]:
    """Open the global model that the round started from.

    Raises JobError where the job's patterns of excluded tensors do not fit it, whoever is there.
    """
    model = request.inputs["model"]
    path = place.store.materialize(model["key"], place.work / "models", digest=model["digest"])
    with ArrayFile(path) as base:
        if request.settings["aggregation"]["exclude"]:
            layouts_of(request, base)
        yield base


def layouts_of(request: Request, base: ArrayFile) -> tuple[Layout, Layout]:
    """Give the layout of what the job's clients share of a model, and of what it keeps as it is."""
    whole = {name: TensorSpec(info.shape, info.dtype) for name, info in base.tensors.items()}
    patterns = request.settings["aggregation"]["exclude"]
    if not patterns:
        return whole, {}
    from fedloom.algorithms.aggregation.exclusion import shared_part

    shared = shared_part(whole, patterns)
    return shared, {name: spec for name, spec in whole.items() if name not in shared}


class NextModel:
    """Output of one aggregation; a context that leaves no scratch file behind.

    Args:
        request: of the task whose outputs `model` and `server-optimizer` these are.
        place: where it runs.
        layout: of the tensors that go through `step` or `copy`.
        optimizer: of the job.
        kept: of the other tensors of the model, which stay as they are (`keep`).
        starts: where only a stretch of the model is made: tensor -> where in it its part begins.
    """

    def __init__(
        self,
        request: Request,
        place: Place,
        layout: Layout,
        optimizer: ServerOptimizer,
        kept: Layout = _NOTHING,
        starts: Mapping[str, int] = _FROM_THE_BEGINNING,
    ) -> None:
        self._request = request
        self._place = place
        self._layout = layout
        self._optimizers = {
            name: tensor_optimizer(optimizer, spec.dtype) for name, spec in layout.items()
        }
        self._kept = kept
        self._starts = starts
        self._stack = ExitStack()
        whole = {**layout, **kept}
        size_bytes = sum(spec.size_bytes for spec in whole.values())
        self._folder = place.memory if size_bytes <= _MEMORY_BYTES else place.work
        self._model = self._writer("model", whole)
        slots = {
            f"{slot}/{name}": TensorSpec(spec.shape, accumulator_dtype(spec.dtype))
            for name, spec in layout.items()
            for slot in self._optimizers[name].slots
        }
        self._state = self._writer("server-optimizer", slots) if slots else None
        before = request.inputs.get("server-optimizer")
        self._before = self._open_state(before) if before and slots else None

    def step(self, base: ArrayFile, name: str, start: int, delta: Array) -> None:
        """Apply the server optimizer to one block and write what comes out."""
        spec, optimizer = self._layout[name], self._optimizers[name]
        first = start + self._starts.get(name, 0)
        old: Array = np.empty(delta.size, spec.dtype)
        base.read_into(name, first, old)
        slots = {
            slot: self._slot(f"{slot}/{name}", first, np.full_like(delta, value))
            for slot, value in optimizer.slots.items()
        }
        new, after = optimizer.apply(
            old.astype(delta.dtype, copy=False), delta, slots, self._request.round
        )
        self._model.write(name, start, to_dtype(new, spec.dtype))
        for slot, values in after.items():
            assert self._state is not None
            self._state.write(f"{slot}/{name}", start, values)

    def keep(self, base: ArrayFile) -> None:
        """Write the tensors that stay as they are."""
        for name in self._kept:
            _copy(base, name, self._model, 0)

    def copy(self, model: ArrayFile, state: ArrayFile | None, starts: Mapping[str, int]) -> None:
        """Write a stretch of the model and of the state that another task has made."""
        for name in model.tensors:
            _copy(model, name, self._model, starts[name])
        if self._state is not None and state is not None:
            for key in state.tensors:
                _copy(state, key, self._state, starts[key.partition("/")[2]])

    def store(self, *, is_durable: bool) -> tuple[Artifact, dict[str, Artifact]]:
        """Close the files and hand them to the store; `is_durable`: they outlive a loss of power.

        Until result.json names its digest a model is a draft: a later attempt may replace it.
        """
        outputs = {"model": self._model} | (
            {"server-optimizer": self._state} if self._state is not None else {}
        )
        stored = {}
        for name, writer in outputs.items():
            writer.close()
            key = self._request.outputs[name]
            stored[name] = self._place.store.put_file(
                key, self._path(name), replace=True, durable=is_durable
            )
        return stored.pop("model"), stored

    def __enter__(self) -> NextModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        for name in ("model", "server-optimizer"):
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        # Other tasks of the round may make parts of the same model in the same folder.
        return self._folder / f"next-{PurePosixPath(self._request.outputs[name]).name}"

    def _writer(self, name: str, layout: Layout) -> ArrayFileWriter:
        shapes = {key: (spec.dtype, spec.shape) for key, spec in layout.items()}
        return self._stack.enter_context(ArrayFileWriter(self._path(name), shapes))

    def _open_state(self, before: Mapping[str, Any]) -> ArrayFile:
        path = self._place.store.materialize(
            before["key"], self._place.work / "states", digest=before["digest"]
        )
        return self._stack.enter_context(ArrayFile(path))

    def _slot(self, name: str, start: int, initial: Array) -> Array:
        """Give a block of a slot as the last round left it; `initial` before the first."""
        if self._before is not None:
            self._before.read_into(name, start, initial)
        return initial


def _copy(file: ArrayFile, name: str, writer: ArrayFileWriter, first: int) -> None:
    info = file.tensors[name]
    values: Array = np.empty(min(info.size, BLOCK_ELEMENTS), info.dtype)
    for start in range(0, info.size, BLOCK_ELEMENTS):
        block = values[: info.size - start]
        file.read_into(name, start, block)
        writer.write(name, first + start, block)
