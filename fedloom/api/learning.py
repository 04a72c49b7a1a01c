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
        bool | None,
        Declared(
            "Whether what the codec lost is added to what is sent next; if left out: wherever the "
            "codec is biased. On the way down it always is."
        ),
    ] = None
    lossless: Annotated[
        str,
        Declared(
            "A last stage over what the codec gives: zstd where bytes matter more than seconds.",
            Bounds(choices=("none", "zstd")),
        ),
    ] = "none"
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
class Aggregation:
    """How updates are combined before the server optimizer takes the result into the model."""

    rule: Annotated[
        str | None,
        Declared("The rule; if left out: the algorithm's own, the weighted mean for most.", _NAME),
    ] = None
    parameters: Annotated[
        Mapping[str, Scalar], Declared("The rule's parameters.", form=Form.INLINE)
    ] = field(default_factory=dict)
    weights: Annotated[
        str | None,
        Declared(
            "How much a client counts: by its examples (if left out), as any other, or by its steps.",
            Bounds(choices=("examples", "uniform", "steps")),
        ),
    ] = None
    clip_norm: Annotated[
        float | None,
        Declared("Updates with a larger L2 norm are scaled down to it.", Bounds(above=0)),
    ] = None
    clip_quantile: Annotated[
        float | None,
        Declared(
            "Updates are scaled down to this quantile of the round's norms; 0.5 is their median.",
            Bounds(above=0, below=1),
        ),
    ] = None
    exclude: Annotated[
        tuple[str, ...],
        Declared(
            "Patterns (* and ?) of tensors that every client keeps for itself, such as *.bn?.*; "
            "they are neither sent nor aggregated (FedBN).",
            Bounds(max_items=64),
        ),
    ] = ()
    fan_in: Annotated[
        int | None,
        Declared(
            "Updates are combined in groups of as many, side by side, then the groups.",
            Bounds(minimum=2, maximum=4096, power_of_two=True),
        ),
    ] = None
    shards: Annotated[
        int | None,
        Declared(
            "The model is combined in as many parts, side by side.", Bounds(minimum=1, maximum=256)
        ),
    ] = None


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
    sampling: Annotated[
        str,
        Declared(
            "fixed draws clientsPerRound clients; poisson draws each client by itself, "
            "clientsPerRound of them on average.",
            Bounds(choices=("fixed", "poisson")),
        ),
    ] = "fixed"
    over_selection: Annotated[
        float,
        Declared(
            "So many times clientsPerRound clients are drawn; the round closes when "
            "clientsPerRound updates are in.",
            Bounds(minimum=1, maximum=10),
        ),
    ] = 1.0
    # Every consumer of the seed, JSON included, keeps an integer of 53 bits exactly.
    seed: Annotated[
        int,
        Declared(
            "Everything random in the job follows from this number.",
            Bounds(minimum=0, maximum=2**53 - 1),
        ),
    ] = 0


@dataclass(frozen=True)
class LocalPrivacy:
    """Noise that every client adds before anything leaves its node."""

    mechanism: Annotated[
        str,
        Declared(
            "gaussian clips the L2 norm, laplace the L1 norm, randomized-response each value.",
            Bounds(choices=("gaussian", "laplace", "randomized-response")),
        ),
    ]
    epsilon: Annotated[
        float,
        Declared(
            "What one update may reveal; of randomized-response: one value of it.",
            Bounds(above=0, maximum=1e6),
        ),
    ]
    clip: Annotated[
        float,
        Declared("The largest norm, or the largest value, before the noise.", Bounds(above=0)),
    ] = 1.0
    delta: Annotated[
        float, Declared("The delta of gaussian; the others need none.", Bounds(above=0, below=1))
    ] = 1e-5


@dataclass(frozen=True)
class Privacy:
    """Differential privacy and secure aggregation of the updates."""

    clip_norm: Annotated[
        float | None,
        Declared(
            "The largest L2 norm of a client's update; larger ones are scaled down.",
            Bounds(above=0),
        ),
    ] = None
    clip_quantile: Annotated[
        float | None,
        Declared(
            "clipNorm is only the start and follows this quantile of the norms, privately.",
            Bounds(above=0, below=1),
        ),
    ] = None
    noise_multiplier: Annotated[
        float | None,
        Declared(
            "Standard deviation of the noise on the sum of the updates, in units of clipNorm.",
            Bounds(minimum=0, maximum=1e6),
        ),
    ] = None
    delta: Annotated[
        float | None,
        Declared("The delta at which epsilon is accounted for.", Bounds(above=0, below=1)),
    ] = None
    max_epsilon: Annotated[
        float | None, Declared("The job stops before it spends more than this.", Bounds(above=0))
    ] = None
    local: Annotated[LocalPrivacy | None, Declared("Noise that clients add by themselves.")] = None
    secure_aggregation: Annotated[
        bool, Declared("Whether the server sees only the sum of the updates.")
    ] = False
    max_value: Annotated[
        float | None,
        Declared(
            "Of secureAggregation: the largest magnitude of a value, larger ones are cut; "
            "clipNorm if left out.",
            Bounds(above=0),
        ),
    ] = None
