"""What a client takes into a round beside the global model: a drift correction, and what is its own.

Tensors of `spec.aggregation.exclude` stay with the client (FedBN: Li, Jiang, Zhang, Kamp, Dou, ICLR
2021, arXiv 2102.07623): its own values are laid over the global model before it trains, what they
became is kept on its node, and the rest is sent. A client begins with the global values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.anchor import Anchor, receive_anchor
from components.control_variates import NAME as CONTROL_VARIATE
from components.control_variates import ControlMemory, Variates, path_length, variates_of
from components.edge_state import own_folder
from components.kept_arrays import KeptArrays
from components.outcome import Arrays, Outcome
from components.request import Place, Request
from components.user_code import Given, UserCode
from fedloom.algorithms.aggregation.exclusion import shared_part
from fedloom.algorithms.drift.anchors import combined_pull
from fedloom.algorithms.drift.control_variates import drift_offset
from fedloom.algorithms.drift.correction import DriftCorrection
from fedloom.algorithms.layout import Array, check_layout, layout_of
from fedloom.errors import UpdateError

if TYPE_CHECKING:
    from components.personal import PersonalModel

_LOCAL, _CONTROL = "local/", "control/"


@dataclass(frozen=True)
class Belongings:
    """What one client has beside the global model in one round.

    Attributes:
        given: what its code is given.
        local: names of the tensors that are its own.
        variates: of scaffold, else None.
        kept: where its own things are kept.
        frozen: names of the tensors that are not trained, and not sent.
        personal: where a model of the client's own is kept, beside the global one; None for none.
        downlink_bytes: sizes of what was fetched only now.
        notice: what is to be told of them; empty as a rule.
    """

    given: Given
    local: frozenset[str]
    variates: Variates | None
    kept: KeptArrays
    frozen: frozenset[str] = frozenset()
    personal: PersonalModel | None = None
    downlink_bytes: int = 0
    notice: str = ""

    def check(self, outcome: Outcome) -> None:
        """Refuse the update of a script that was given a correction and did not apply it.

        Raises UpdateError("CorrectionNotApplied").
        """
        correction = self.given.correction
        if correction is not None and correction.must_be_applied and not outcome.is_corrected:
            raise UpdateError(
                "CorrectionNotApplied",
                "the job corrects the drift of its clients, but this training did not apply it, and "
                "its update would be fedavg's: call context.correct(gradients, model) before every "
                "step (torch: corrected(optimizer, module, context)); a program adds the terms of "
                'FEDLOOM_CORRECTION and says "corrected": true in FEDLOOM_RESULT',
            )

    def shared(self, model: Mapping[str, Array]) -> Arrays:
        """Give a model without the client's own tensors, and without those that nobody trains."""
        return _without(model, self.local | self.frozen)

    def memory(
        self,
        request: Request,
        outcome: Outcome,
        after: Mapping[str, Array],
        before: Mapping[str, Array],
    ) -> ControlMemory | None:
        """Give what else goes into the update of scaffold's client, and what remembers it.

        `after` and `before` are what is shared of the new weights and of the global model.
        Raises UpdateError: `NoSteps`, `BadLearningRate`, or `NotFinite` where variates overflow.
        """
        if self.variates is None:
            return None
        rate = request.settings["drift"]["learning_rate"]
        way = path_length(outcome.num_steps, rate)
        return ControlMemory(self.variates, self.variates.changes(after, before, way))

    def keep(self, digest: str, trained: Outcome, memory: ControlMemory | None) -> None:
        """Keep on the node what belongs to the update `digest`, before anybody may use that."""
        assert trained.arrays is not None
        arrays = {_LOCAL + name: trained.arrays[name] for name in self.local}
        if memory is not None:
            arrays |= {_CONTROL + name: array for name, array in memory.own().items()}
        if self.personal is not None:
            arrays |= self.personal.keep(trained, self.frozen, self.given)
        if arrays:
            self.kept.store(arrays, digest)


def belongings_of(request: Request, place: Place, code: UserCode) -> Belongings:
    """Give what the client of a train or compress task with `drift` in its settings has of its own.

    Raises UpdateError("EdgeStateLost" | "EdgeStateDamaged") where scaffold's client cannot go on, and
    JobError where the job's patterns describe no tensor, or all of them.
    """
    drift = request.settings["drift"]
    assert request.client is not None
    model = code.model(place, request.inputs["model"])
    shared = shared_part(layout_of(model), drift.get("local_tensors", ()))
    local = frozenset(model.keys() - shared.keys())
    kept = KeptArrays(own_folder(place.edge, request.client), request.round, drift["accepted"])
    is_scaffold = "learning_rate" in drift
    frozen = frozenset(drift.get("frozen", ()))
    is_ditto = drift.get("personal", {}).get("kind") == "ditto"
    has_kept = local or is_scaffold or is_ditto
    arrays, notice = _load(kept, is_scaffold=is_scaffold) if has_kept else ({}, "")
    variates = None
    if is_scaffold:
        common = request.inputs.get(CONTROL_VARIATE)
        variates = variates_of(
            _part(_CONTROL, arrays),
            None if common is None else code.load(place, common, CONTROL_VARIATE),
            shared,
        )
    tensors = _part(_LOCAL, arrays)
    if tensors:
        check_layout(layout_of({name: model[name] for name in local}), layout_of(tensors))
    anchor = receive_anchor(request, place, code) if "anchor" in request.inputs else None
    given = Given(
        request.inputs["model"],
        {**model, **tensors} if tensors else None,
        _correction(drift.get("pulls", {}), model, anchor, variates, (local, frozen)),
    )
    personal = None
    if "personal" in drift:
        from components.personal import personal_model

        personal = personal_model(request, place, arrays, model)
    down = anchor.bytes if anchor else 0
    return Belongings(given, local, variates, kept, frozen, personal, down, notice)


def _correction(
    pulls: Mapping[str, float],
    model: Arrays,
    anchor: Anchor | None,
    variates: Variates | None,
    exceptions: tuple[frozenset[str], frozenset[str]],
) -> DriftCorrection | None:
    """Make the correction; `exceptions` are the client's own tensors and those that are not trained."""
    local, frozen = exceptions
    if variates is None and not pulls and not frozen:
        return None
    weights = {"proximal": model, "anchor": model if anchor is None else anchor.arrays}
    mu, middle = combined_pull((strength, weights[name]) for name, strength in pulls.items())
    offset = {} if variates is None else drift_offset(variates.common, variates.own)
    return DriftCorrection(mu, middle, offset, untouched=local, frozen=frozen)


def _load(kept: KeptArrays, *, is_scaffold: bool) -> tuple[Arrays, str]:
    """Own tensors can begin anew: a bounded loss. The server counts on a control variate for good."""
    try:
        return kept.load() or {}, ""
    except UpdateError as error:
        if is_scaffold:
            raise
        return {}, f"the client's own tensors begin anew with the global values: {error.message}"


def _part(prefix: str, arrays: Mapping[str, Array]) -> Arrays:
    length = len(prefix)
    return {name[length:]: array for name, array in arrays.items() if name.startswith(prefix)}


def _without(arrays: Mapping[str, Array], names: Collection[str]) -> Arrays:
    return {name: array for name, array in arrays.items() if name not in names}
