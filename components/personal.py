"""A model of a client's own, beside the global one: kept on its node, and never sent.

    finetune    what the client's training made of the global model that it was given last
    body        the same, with a last layer that is never sent (its arrays are the client's own anyway)
    ditto       a model that is trained by itself, and pulled to the global one (Li et al. 2021)

It lies as `personal.safetensors` in what Fedloom keeps on the node for the client; ditto's also with what
belongs to the client's last accepted update, where it goes on from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from components.edge_state import own_folder
from components.outcome import Arrays, Outcome, read_outcome
from components.request import Place, Request
from components.user_code import Given, UserCode
from fedloom.algorithms.layout import check_update, layout_of
from fedloom.algorithms.transfer.personal import ditto
from fedloom.artifacts.arrays import dump_arrays
from fedloom.errors import UpdateError

FILE, FOLDER = "personal.safetensors", "personal"
_PREFIX = "personal/"


@dataclass
class PersonalModel:
    """One client's own model in one round.

    Attributes:
        folder: what Fedloom keeps on the node for the client.
        given: ditto's: what its training starts from; None for the others.
        trained: what that made, once it has run.
    """

    folder: Path
    given: Given | None = None
    trained: Arrays = field(default_factory=dict)

    def train(self, request: Request, place: Place, code: UserCode, state: Path) -> None:
        """Train ditto's model. Raises UpdateError as `train` does."""
        if self.given is None:
            return
        at_hand = replace(place, work=place.work / FOLDER)
        self.take(code.perform(request, at_hand, state, self.given))

    def take(self, outcome: Outcome) -> None:
        """Look at what the training made. Raises UpdateError."""
        assert self.given is not None
        assert self.given.arrays is not None
        assert outcome.arrays is not None
        check_update(layout_of(self.given.arrays), outcome.arrays)
        correction = self.given.correction
        if correction is not None and correction.must_be_applied and not outcome.is_corrected:
            raise UpdateError(
                "CorrectionNotApplied",
                "the anchor ditto pulls every client's own model to the global one, but this training "
                "did not apply it: call context.correct(gradients, model) before every step",
            )
        self.trained = outcome.arrays

    def keep(self, outcome: Outcome, frozen: frozenset[str], given: Given) -> Arrays:
        """Write the model whole or not at all; give what is kept with the update."""
        assert outcome.arrays is not None
        arrays = self.trained if self.given is not None else outcome.arrays
        if self.given is None and frozen and given.arrays is not None:
            arrays = {**arrays, **{name: given.arrays[name] for name in frozen}}
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"{FILE}.part"
        draft.write_bytes(dump_arrays(arrays))
        draft.replace(self.folder / FILE)
        return {_PREFIX + name: array for name, array in self.trained.items()}


def personal_model(request: Request, place: Place, kept: Arrays, model: Arrays) -> PersonalModel:
    """Give the client's own model; `kept` is what belongs to its last accepted update."""
    settings = request.settings["drift"]["personal"]
    assert request.client is not None
    folder = own_folder(place.edge, request.client)
    if settings["kind"] != "ditto":
        return PersonalModel(folder)
    own = {name: kept.get(_PREFIX + name, array) for name, array in model.items()}
    return PersonalModel(folder, Given(request.inputs["model"], own, ditto(settings["mu"], model)))


def left_in(work: Path) -> Outcome:
    """Read what the user's container made of it. Raises UpdateError."""
    folder = work / FOLDER
    return read_outcome(folder / "update.safetensors", folder / "result.json")
