"""Torch modules in a training class: weights in and out, drift correction, seeds, threads.

    load_weights(module, model)                        # the global model of the round
    optimizer = corrected(SGD(module.parameters(), lr=0.05), module, context)
    ...                                                # any training loop
    return fedloom.Update(weights_of(module), num_examples=...)

The one door to torch of the library: nothing else in it imports this module.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch.optim.optimizer import Optimizer
from torch.utils.hooks import RemovableHandle

from fedloom.algorithms.layout import TensorSpec, check_layout, layout_of
from fedloom.errors import UpdateError
from fedloom.training.context import Round

Array = np.ndarray[Any, Any]
OptimizerT = TypeVar("OptimizerT", bound=Optimizer)

# What both torch and safetensors in numpy have.
_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    getattr(torch, name): np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
    )
}
_corrections: WeakKeyDictionary[Optimizer, RemovableHandle] = WeakKeyDictionary()


def weights_of(module: torch.nn.Module) -> dict[str, Array]:
    """Give a module's whole state (parameters and buffers), sorted by name.

    The arrays are C-contiguous copies in main memory with the tensors' shapes and dtypes; later
    steps of the module do not show in them.

    Raises UpdateError("UnsupportedTensor") for what numpy has no dtype for, bfloat16 above all:
    rounding a global model to it and back would lose what clients learn. Keep such a module in
    float32 and compute in `torch.autocast(..., dtype=torch.bfloat16)`.
    """
    arrays = {}
    for name, tensor in sorted(_state_of(module).items()):
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        arrays[name] = copy.copy_(tensor).numpy()
    return arrays


def load_weights(module: torch.nn.Module, model: Mapping[str, Array]) -> None:
    """Copy a model's arrays into a module's parameters and buffers, on whatever device they are.

    Raises UpdateError (MissingTensor, UnexpectedTensor, ShapeMismatch, DtypeMismatch) that names
    the tensor, what was got and what the module expected; then nothing has been copied.
    """
    state = _state_of(module)
    specs = {n: TensorSpec(tuple(t.shape), _DTYPES[t.dtype]) for n, t in state.items()}
    try:
        check_layout(specs, layout_of(model))
    except UpdateError as error:
        raise UpdateError(error.reason, f"{type(module).__name__}: {error.message}") from None
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(_tensor(model[name]))


def corrected(optimizer: OptimizerT, module: torch.nn.Module, context: Round) -> OptimizerT:
    """Give the same optimizer, each `step` of which now applies the round's drift correction first.

    The gradients of `module` go through `context.correct` after clipping and unscaling, right
    before they are used; closures (L-BFGS) are followed too. Where the round corrects nothing,
    nothing is added to the optimizer. Gradients and weights in main memory are handed over without
    copies. An optimizer that is kept from round to round is given the new round's correction in
    place of the last one's.

    Raises UpdateError("UnsupportedGradient") in `step` for gradients that numpy cannot hold.
    """
    former = _corrections.pop(optimizer, None)
    if former is not None:
        former.remove()
    if context.corrects:
        hook = partial(_before_step, module, context)
        _corrections[optimizer] = optimizer.register_step_pre_hook(hook)
    return optimizer


def seed_everything(seed: int) -> None:
    """Seed torch (all devices), numpy's global generator and Python's `random`.

    With `context.seed`, first thing in `train`, a round's client draws the same numbers on a retry
    and on every machine. Bits are the same too on the CPU with the same torch and the same number
    of threads (see `bound_threads`: sums are split over threads, and rounding shows where). On a
    GPU also call `torch.use_deterministic_algorithms(True)`, which says what has no reproducible
    form, and set CUBLAS_WORKSPACE_CONFIG=:4096:8 in the job's template. A DataLoader with workers
    needs its own `generator`.
    """
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def bound_threads(most: int | None = None) -> int:
    """Hold torch's operators to OMP_NUM_THREADS threads, where it is set, and to `most` at most.

    Torch reads the variable only as it is loaded, and without it takes every core it sees, also
    those that belong to other clients or pods. Gives the number of threads. Raises ValueError for
    `most` < 1; an OMP_NUM_THREADS that is no number >= 1 is passed over, as OpenMP does.
    """
    if most is not None and most < 1:
        raise ValueError(f"most: got {most}, expected an integer >= 1")
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    threads = int(first) if first.isdecimal() and int(first) > 0 else _cores()
    threads = threads if most is None else min(threads, most)
    torch.set_num_threads(threads)
    return threads


def _state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The module's tensors by name, views of its memory; refuses what has no numpy form."""
    state = module.state_dict()
    for name, value in state.items():
        if got := _misfit(value):
            raise UpdateError(
                "UnsupportedTensor",
                f"{type(module).__name__}: tensor {name!r}: got {got}, expected a dense tensor of "
                "bool, 8 to 64 bit integers, float16, float32 or float64",
            )
    return dict(state)


def _before_step(
    module: torch.nn.Module,
    context: Round,
    _: Optimizer,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Hook of `step(closure=None)`: correct now, or whenever the closure has made new gradients."""
    itself, *rest = args
    closure = rest[0] if rest else kwargs.get("closure")
    if closure is None:
        _correct(module, context)
        return None

    def corrected_closure() -> Any:
        loss = closure()
        _correct(module, context)
        return loss

    others = {name: value for name, value in kwargs.items() if name != "closure"}
    return (itself, corrected_closure, *rest[1:]), others


def _correct(module: torch.nn.Module, context: Round) -> None:
    held = {n: p for n, p in module.named_parameters() if p.grad is not None}
    gradients = {name: _view(f"{name}.grad", p.grad) for name, p in held.items()}
    weights = {name: _view(name, p) for name, p in held.items()}
    after = context.correct(gradients, weights)
    with torch.no_grad():
        for name, parameter in held.items():
            assert parameter.grad is not None
            is_in_place = after[name] is gradients[name] and parameter.grad.device.type == "cpu"
            if not is_in_place:
                parameter.grad.copy_(_tensor(after[name]))


def _view(name: str, tensor: torch.Tensor | None) -> Array:
    """A tensor as an array: the same memory where that is main memory, a copy from a GPU."""
    assert tensor is not None
    if got := _misfit(tensor):
        raise UpdateError(
            "UnsupportedGradient",
            f"{name}: got {got}, expected a dense tensor of float16, float32 or float64, "
            "since the job's algorithm corrects gradients",
        )
    array: Array = tensor.detach().cpu().numpy()
    return array


def _tensor(array: Array) -> torch.Tensor:
    """An array as a tensor; torch takes no read-only or backwards one without a copy."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _misfit(value: object) -> str:
    """Say what a value is if no array can hold it; nothing for all others."""
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    if value.layout == torch.strided and value.dtype in _DTYPES:
        return ""
    return f"a {value.layout} tensor of {value.dtype}".replace("torch.", "")


def _cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
