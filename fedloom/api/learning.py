"""How the learning goes: algorithm, compression, participation, privacy, transfer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from fedloom.api import capabilities
from fedloom.api.declaration import Bounds, Declared, Form, Rule

Scalar = float | int | str | bool
_NAME = Bounds(max_length=63)
_MOST_CLIENTS = 50_000


@dataclass(frozen=True)
class Algorithm:
    """A federated algorithm by name, with the parameters that differ from their defaults."""

    name: Annotated[str, Declared("Which algorithm combines the clients' updates.", _NAME)]
    parameters: Annotated[Mapping[str, Scalar], Declared("The algorithm's parameters.")] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class CodecSpec:
    """A codec by name; its parameters stand beside the name in YAML."""

    codec: Annotated[
        str, Declared("How arrays are encoded; none sends them as they are.", _NAME)
    ] = "none"
    error_feedback: Annotated[
        bool,
        Declared(
            "Whether a client adds what the codec lost to its next update. Not in this version."
        ),
    ] = False
    parameters: Annotated[
        Mapping[str, Scalar], Declared("The codec's parameters.", form=Form.INLINE)
    ] = field(default_factory=dict)


@dataclass(frozen=True)
class Compression:
    """What is encoded on its way: updates up, the model down."""

    uplink: Annotated[
        CodecSpec,
        Declared(
            "Codec of the updates that clients send; applied before they leave the edge.",
            catalogue=capabilities.UPLINK_CODECS,
        ),
    ] = field(default_factory=CodecSpec)
    downlink: Annotated[
        CodecSpec,
        Declared(
            "Codec of the model that clients receive.", catalogue=capabilities.DOWNLINK_CODECS
        ),
    ] = field(default_factory=CodecSpec)


@dataclass(frozen=True)
class Participation:
    """Who takes part in a round, and when it closes."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.minClients) || !has(self.clientsPerRound) || "
            "self.minClients <= self.clientsPerRound",
            "minClients must not be more than clientsPerRound",
        ),
    )

    clients_per_round: Annotated[
        int | None,
        Declared(
            "How many clients are drawn for a round; all of them if left out.",
            Bounds(minimum=1, maximum=_MOST_CLIENTS),
        ),
    ] = None
    min_clients: Annotated[
        int | None,
        Declared(
            "How many updates a round needs to count; every client of the round if left out.",
            Bounds(minimum=1, maximum=_MOST_CLIENTS),
        ),
    ] = None
    deadline_seconds: Annotated[
        float,
        Declared(
            "After this long a round closes with the updates that are in, if they are minClients.",
            Bounds(above=0, maximum=31_536_000),
        ),
    ] = 600.0
    retries: Annotated[
        int,
        Declared(
            "How often a round with too few updates is tried again with a new cohort, "
            "before the job fails.",
            Bounds(minimum=0, maximum=100),
        ),
    ] = 1
    # Every consumer of the seed, JSON included, keeps an integer of 53 bits exactly.
    seed: Annotated[
        int,
        Declared(
            "Everything random in the job follows from this number.",
            Bounds(minimum=0, maximum=2**53 - 1),
        ),
    ] = 0


@dataclass(frozen=True)
class Privacy:
    """Differential privacy and secure aggregation of the updates. Not in this version."""

    clip_norm: Annotated[
        float | None, Declared("The largest L2 norm of a client's update.", Bounds(above=0))
    ] = None
    noise_multiplier: Annotated[
        float | None,
        Declared("Standard deviation of the noise, in units of clipNorm.", Bounds(minimum=0)),
    ] = None
    delta: Annotated[
        float | None,
        Declared("The delta at which epsilon is accounted for.", Bounds(above=0, below=1)),
    ] = None
    max_epsilon: Annotated[
        float | None, Declared("The job stops before it spends more than this.", Bounds(above=0))
    ] = None
    secure_aggregation: Annotated[
        bool, Declared("Whether the server sees only the sum of the updates.")
    ] = False


@dataclass(frozen=True)
class TransferSource:
    """A model to start from."""

    model: Annotated[
        str, Declared("The name of a Model in the job's namespace.", Bounds(max_length=253))
    ]


@dataclass(frozen=True)
class Anchor:
    """What holds the weights near the transferred ones."""

    kind: Annotated[str, Declared("The kind of penalty.", Bounds(choices=("l2sp",)))] = "l2sp"
    mu: Annotated[float, Declared("The strength of the penalty.", Bounds(minimum=0))] = 0.1


@dataclass(frozen=True)
class Transfer:
    """What other jobs' models give to the first model of this one. Not in this version."""

    mode: Annotated[
        str,
        Declared(
            "warmStart takes every array that fits, body all but the last layer, auto decides.",
            Bounds(choices=("warmStart", "body", "auto")),
        ),
    ] = "auto"
    sources: Annotated[
        tuple[TransferSource, ...],
        Declared("The models to take from, best first.", Bounds(max_items=16), name="from"),
    ] = ()
    anchor: Annotated[Anchor | None, Declared("A penalty that keeps the weights near.")] = None
