"""What a client keeps of its updates that were not sent, and how it comes into the next ones.

A codec that loses more than noise (`topk`, `stc`, `sign`, `lowrank`) leaves out much the same again
and again. Here the client adds up what was left out, so that it is late instead of lost.

Everything works on one tensor at a time (`packing` says what is one) and element by element, on float
arrays of one shape; the state is named arrays of that shape, zero before the client's first update. The
caller encodes what
`outgoing` gives, decodes that again, and commits what `kept` gives once the server has accepted the
update. For an update that never arrived, `kept` with zeros as `decoded` gives the state in which
all of it is still to be sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from fedloom.algorithms import parameters as params
from fedloom.algorithms.compression.registry import codec
from fedloom.algorithms.layout import Array

State = Mapping[str, Array]


class Feedback(Protocol):
    """The memory of one client for one tensor: pure functions, the state is the caller's."""

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the arrays of state that each tensor has."""
        ...

    def outgoing(self, delta: Array, state: State) -> Array:
        """Give what to encode instead of the delta, in a new array of its shape and dtype.

        Args:
            delta: what the client learned this round, float32 or float64, any shape.
            state: an array of that shape and dtype for each slot.
        """
        ...

    def kept(self, outgoing: Array, decoded: Array, state: State) -> dict[str, Array]:
        """Give the state after an update, in new arrays.

        Args:
            outgoing: what `outgoing` gave, of the same `state`.
            decoded: what the server makes of it, the same shape; zeros if it got nothing.
            state: as it was before the update.
        """
        ...


@dataclass(frozen=True)
class ErrorFeedback:
    """Adds to each update what the last ones lost.

    With residual e, delta d and codec C: send C(d + e), then e <- d + e - C(d + e). So what the
    server got and the residual always add up to the sum of all deltas (to float32's rounding).

    Seide et al., "1-bit stochastic gradient descent", Interspeech 2014; Stich et al., "Sparsified SGD
    with memory", NeurIPS 2018, arXiv 1809.07599; Karimireddy et al., "Error feedback fixes SignSGD",
    ICML 2019, arXiv 1901.09847.
    """

    slots: ClassVar[tuple[str, ...]] = ("residual",)

    def outgoing(self, delta: Array, state: State) -> Array:
        """Give delta + residual."""
        return np.add(delta, state["residual"], out=_like(delta))

    def kept(self, outgoing: Array, decoded: Array, state: State) -> dict[str, Array]:
        """Give outgoing - decoded."""
        del state
        return {"residual": np.subtract(outgoing, decoded, out=_like(outgoing))}


@dataclass(frozen=True)
class MomentumCorrection:
    """Error feedback that carries on in the direction of what was not sent: for `dgc`.

    With velocity u, residual v and delta d: u <- momentum u + d, v <- v + u, the largest of v are
    sent, and where a value was sent both start again from zero (momentum factor masking), so that
    no old direction pushes on after its value has arrived. Without momentum it is `ErrorFeedback`
    with a codec that sends values exactly.

    Lin et al., "Deep gradient compression", ICLR 2018, arXiv 1712.01887, sections 3.1 and 3.2. Its
    clipping of gradients is left to the training script, its warm-up is the codec's. (`dgc` says why
    the default is not the paper's 0.9.)

    Args:
        momentum: 0 <= momentum < 1.
    """

    slots: ClassVar[tuple[str, ...]] = ("residual", "velocity")
    momentum: float = 0.5

    def outgoing(self, delta: Array, state: State) -> Array:
        """Give residual + momentum * velocity + delta."""
        total: Array = np.multiply(
            state["velocity"], delta.dtype.type(self.momentum), out=_like(delta)
        )
        np.add(total, delta, out=total)
        np.add(total, state["residual"], out=total)
        return total

    def kept(self, outgoing: Array, decoded: Array, state: State) -> dict[str, Array]:
        """Clear both where something was sent; the velocity is what was added to the residual."""
        velocity = np.subtract(outgoing, state["residual"], out=_like(outgoing))
        residual = outgoing.copy()
        sent = decoded != 0
        velocity[sent] = 0
        residual[sent] = 0
        return {"residual": residual, "velocity": velocity}


def feedback_of(
    codec_name: str, parameters: Mapping[str, object], error_feedback: bool
) -> Feedback | None:
    """Give what a client keeps from update to update, or None where nothing is kept.

    Args:
        codec_name: as in `spec.compression.uplink.codec`.
        parameters: the codec's.
        error_feedback: as in `spec.compression.uplink.errorFeedback`. `dgc` always keeps what it
            did not send: it is one method with its momentum. `none` loses nothing to be kept.

    Raises:
        JobError: `UnknownCodec` or `InvalidParameter`, as `registry.codec`.
    """
    made = codec(codec_name, parameters)
    if codec_name == "dgc":
        return MomentumCorrection(
            params.number(made.parameters, "momentum", MomentumCorrection.momentum)
        )
    return ErrorFeedback() if error_feedback and codec_name != "none" else None


def _like(array: Array) -> Array:
    """Give memory for a result: a scalar tensor stays an array, the result is C-contiguous."""
    return np.empty(array.shape, array.dtype)
