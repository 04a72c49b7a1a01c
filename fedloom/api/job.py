"""FederatedLearningJob: Sedna's fields as they are, and optional ones beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from fedloom.api import capabilities
from fedloom.api.declaration import Bounds, Declared, Form, Rule
from fedloom.api.learning import (
    Aggregation,
    Algorithm,
    CodecSpec,
    Compression,
    Participation,
    Privacy,
)
from fedloom.api.metadata import ObjectMeta, Reference
from fedloom.api.outcome import Evaluation, Output, StopCondition
from fedloom.api.pod import PodTemplate
from fedloom.api.transfer import Anchor, RegistrySearch, Transfer, TransferSource

__all__ = [
    "MOST_ROUNDS",
    "Aggregation",
    "AggregationWorker",
    "Algorithm",
    "Anchor",
    "CodecSpec",
    "Compression",
    "Edge",
    "EdgeState",
    "Engine",
    "Evaluation",
    "FederatedLearningJob",
    "JobSpec",
    "Output",
    "Participation",
    "Privacy",
    "RegistrySearch",
    "S3Transmitter",
    "StopCondition",
    "TrainingWorker",
    "Transfer",
    "TransferSource",
    "Transmitter",
]

MOST_ROUNDS = 100_000


@dataclass(frozen=True)
class AggregationWorker:
    """The cloud side of the job."""

    model: Annotated[Reference, Declared("The Model that the job makes.")]
    template: Annotated[PodTemplate, Declared("The pod that aggregates.")]


@dataclass(frozen=True)
class TrainingWorker:
    """One client of the job."""

    dataset: Annotated[Reference, Declared("The Dataset that this worker trains on.")]
    template: Annotated[PodTemplate, Declared("The pod that trains.")]


@dataclass(frozen=True)
class S3Transmitter:
    """Where artifacts travel through."""

    agg_data_path: Annotated[
        str, Declared("s3://bucket/prefix under which the job keeps what it sends and receives.")
    ]
    credential_name: Annotated[
        str | None, Declared("The Secret with ACCESS_KEY_ID and SECRET_ACCESS_KEY.")
    ] = None


@dataclass(frozen=True)
class Transmitter:
    """How models and updates travel; where both are given, s3 wins."""

    s3: Annotated[S3Transmitter | None, Declared("Through an S3 object store.")] = None
    ws: Annotated[
        bool, Declared("Sedna's websocket; accepted, and served by artifacts.", form=Form.PRESENCE)
    ] = False


@dataclass(frozen=True)
class Engine:
    """What runs the rounds on a cluster; a job that is run on one machine ignores it."""

    name: Annotated[
        str | None,
        Declared(
            "argo: a Workflow per round; kfp: a run of Kubeflow Pipelines per round. "
            "The controller's own choice if left out.",
            Bounds(choices=("argo", "kfp")),
        ),
    ] = None


@dataclass(frozen=True)
class EdgeState:
    """Where a client keeps its own state from round to round; it never leaves the node."""

    host_path: Annotated[
        str | None,
        Declared(
            "A folder of the node.",
            Bounds(pattern=r"/.*", pattern_meaning="an absolute path", max_length=4096),
        ),
    ] = None
    claim: Annotated[
        str | None,
        Declared(
            "With engine kfp, which has no folders of nodes: a PersistentVolumeClaim where it runs "
            "its pods. {client} and {node} stand for the client's name and its node's.",
            Bounds(
                pattern=r"([-a-z0-9.]|\{client\}|\{node\})+",
                pattern_meaning="the name of a claim, {client} and {node} in it",
                max_length=253,
            ),
        ),
    ] = None


@dataclass(frozen=True)
class Edge:
    """How pods come to the edge nodes and what they keep there."""

    runtime: Annotated[
        str,
        Declared(
            "direct: pods of the engine; dispatch: plain pods that need no API server; "
            "auto: by the node's labels.",
            Bounds(choices=("auto", "direct", "dispatch")),
        ),
    ] = "auto"
    state: Annotated[EdgeState | None, Declared("What clients keep on their nodes.")] = None


@dataclass(frozen=True)
class JobSpec:
    """What the user wants. The first four fields are Sedna's, every other one is optional."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "size(self.trainingWorkers) == size(oldSelf.trainingWorkers)",
            "the number of training workers cannot change: the clients of a job are fixed",
        ),
        *(
            Rule(
                f"has(self.{field}) == has(oldSelf.{field}) && "
                f"(!has(self.{field}) || self.{field} == oldSelf.{field})",
                f"the {field} of a job cannot change: rounds already done would not count",
            )
            for field in ("algorithm", "aggregation", "compression", "pretrainedModel", "transfer")
        ),
        *(
            Rule(
                "!has(self.participation) || !has(oldSelf.participation) || "
                f"!has(self.participation.{field}) || !has(oldSelf.participation.{field}) || "
                f"self.participation.{field} == oldSelf.participation.{field}",
                f"{field} cannot change: every round's cohort follows from it",
            )
            for field in ("seed", "sampling", "clientsPerRound")
        ),
        Rule(
            "has(self.privacy) == has(oldSelf.privacy) && (!has(self.privacy) || "
            "(!has(self.privacy.noiseMultiplier) && !has(oldSelf.privacy.noiseMultiplier)) || "
            "(has(self.privacy.noiseMultiplier) && has(oldSelf.privacy.noiseMultiplier) && "
            "self.privacy.noiseMultiplier == oldSelf.privacy.noiseMultiplier))",
            "the noise of a job cannot change: what was spent is known by the number of rounds",
        ),
        Rule(
            "!has(self.participation) || !has(self.participation.clientsPerRound) || "
            "self.participation.clientsPerRound <= size(self.trainingWorkers)",
            "clientsPerRound must not be more than the number of training workers",
        ),
        Rule(
            "!has(self.output) || !has(self.output.savePolicy) || "
            "self.output.savePolicy != 'best' || has(self.stopCondition)",
            "savePolicy best needs stopCondition: it says which metric is meant",
        ),
    )

    aggregation_worker: Annotated[AggregationWorker, Declared("Combines the clients' updates.")]
    # 50,000 of the smallest workers are more than an API server takes: no valid document has more.
    training_workers: Annotated[
        tuple[TrainingWorker, ...],
        Declared("The clients; each trains on its own dataset.", Bounds(max_items=50_000)),
    ]
    pretrained_model: Annotated[
        Reference | None,
        Declared("The Model to start from.", form=Form.EMPTY_IS_ABSENT),
    ] = None
    transmitter: Annotated[Transmitter | None, Declared("How models and updates travel.")] = None
    rounds: Annotated[
        int | None,
        Declared(
            "How many rounds; else the workers' environment (exit_round, rounds), else 1.",
            Bounds(minimum=1, maximum=MOST_ROUNDS),
        ),
    ] = None
    algorithm: Annotated[
        Algorithm | None,
        Declared(
            "The federated algorithm; else the workers' environment (aggregation_algorithm), "
            "else fedavg.",
            catalogue=capabilities.ALGORITHMS,
        ),
    ] = None
    hyperparameters: Annotated[
        Mapping[str, Any],
        Declared("Reach every worker's script; a worker's own environment wins."),
    ] = field(default_factory=dict)
    aggregation: Annotated[
        Aggregation,
        Declared("How updates are combined.", catalogue=capabilities.RULES),
    ] = field(default_factory=Aggregation)
    compression: Annotated[Compression, Declared("What is encoded on its way.")] = field(
        default_factory=Compression
    )
    participation: Annotated[
        Participation, Declared("Who takes part in a round, and when it closes.")
    ] = field(default_factory=Participation)
    privacy: Annotated[Privacy | None, Declared("Privacy of the updates.")] = None
    transfer: Annotated[
        Transfer | None, Declared("Learning from other jobs' models, and models of one's own.")
    ] = None
    evaluation: Annotated[
        Evaluation | None,
        Declared("How the aggregated model is evaluated; not at all if left out."),
    ] = None
    stop_condition: Annotated[
        StopCondition | None, Declared("When the job is done before its last round.")
    ] = None
    output: Annotated[Output, Declared("Where the aggregated models go.")] = field(
        default_factory=Output
    )
    engine: Annotated[Engine, Declared("What runs the rounds on a cluster.")] = field(
        default_factory=Engine
    )
    edge: Annotated[Edge, Declared("How pods come to the edge nodes.")] = field(
        default_factory=Edge
    )
    suspend: Annotated[
        bool, Declared("Whether the job waits after the round at hand, until this is false again.")
    ] = False
    compat: Annotated[
        str | None,
        Declared(
            "sedna: its scripts import sedna, and find it; websocket: its images speak Sedna's "
            "protocol and stay as they are. If left out: sedna where only Sedna's fields are set.",
            Bounds(choices=("sedna", "websocket")),
        ),
    ] = None


@dataclass(frozen=True)
class FederatedLearningJob:
    """A federated learning job: what the user asked for.

    `written` is its spec before defaults were filled in, where they are: a script may describe what the
    document does not.
    """

    metadata: ObjectMeta
    spec: JobSpec
    written: JobSpec | None = field(default=None, compare=False, repr=False)
