"""How many clients a round of a V2 job wants. Who they are is drawn by the job, not here."""

from typing import Any, Dict

from ..round.values import number_of

__all__ = ("AbstractClientChoose", "SimpleClientChoose")


class AbstractClientChoose:
    """A chooser: `parameters` is all that is looked at."""

    def __init__(self) -> None:
        self.parameters: Dict[str, Any] = {}


class SimpleClientChoose(AbstractClientChoose):
    """`per_round` clients, at random."""

    def __init__(self, per_round: Any = 1) -> None:
        super().__init__()
        self.per_round = number_of("per_round", per_round, int)
        self.parameters = {"per_round": self.per_round}
