"""What this version implements, as plain data: algorithms, codecs, and their parameters.

A name that is in no catalogue but in a `PLANNED` set is refused as "known, but not part of this
version", every other name as unknown.
"""

from __future__ import annotations

from dataclasses import replace

from fedloom.api.declaration import Bounds, Catalogue, Parameter

_SERVER_LEARNING_RATE = Parameter(
    "The server's step: times the clients' combined update for fedavg (1 is plain averaging) and "
    "the robust rules, its momentum for fedavgm; for the others about how far a "
    "value of the model moves in a round.",
    1.0,
    Bounds(above=0),
)
_MOMENTUM = Parameter(
    "How much of the last round's step goes into the next one; 0 is fedavg.",
    0.9,
    Bounds(minimum=0, below=1),
)
_BETA1 = Parameter(
    "How much of the last round's direction goes into the next one; 0 takes each update as it is.",
    0.9,
    Bounds(minimum=0, below=1),
)
_BETA2 = Parameter(
    "How much of what is known about the size of each value's updates is kept from round to round.",
    0.99,
    Bounds(minimum=0, below=1),
)
_TAU = Parameter(
    "Updates far smaller than this move the model in proportion to their size, larger ones by about "
    "serverLearningRate.",
    1e-3,
    Bounds(minimum=1e-12, maximum=1e6),
)
_TRIM = Parameter(
    "How many clients are dropped at each end of every value; more than twice as many take part.",
    1,
    Bounds(minimum=0),
)
_BYZANTINE = Parameter(
    "How many clients may send anything at all; a round needs 2 * byzantine + 3 updates.",
    1,
    Bounds(minimum=0),
)
_KEEP = Parameter(
    "How many updates are averaged; 0 is all but the byzantine ones.", 0, Bounds(minimum=0)
)
_ITERATIONS = Parameter(
    "How often the weights are worked out again, at most; the more, the less a far update counts.",
    100,
    Bounds(minimum=1, maximum=10_000),
)
_SMOOTHING = Parameter(
    "The distance below which an update counts as no closer, in the norm of an update.",
    1e-6,
    Bounds(above=0),
)
_BLOCK_SIZE = Parameter(
    "How many values share one scale: smaller is more exact and a little larger to send.",
    256,
    Bounds(minimum=16, maximum=65536, power_of_two=True),
)
_PROXIMAL_MU = Parameter(
    "How strongly a client's weights are held near those it was given.", 0.1, Bounds(minimum=0)
)
_FRACTION = Parameter(
    "Which part of an update's values is sent, the largest ones of all tensors together.",
    0.01,
    Bounds(above=0, maximum=1),
)
_RANK = Parameter(
    "Rank of the two factors that stand for a matrix.", 2, Bounds(minimum=1, maximum=256)
)
_CLIENT_MOMENTUM = Parameter(
    "How much of what was not sent before goes on in its direction.",
    0.5,
    Bounds(minimum=0, below=1),
)
_WARMUP_ROUNDS = Parameter(
    "Over so many rounds fraction comes down from a quarter.", 4, Bounds(minimum=0, maximum=10_000)
)

ROBUST_RULES: Catalogue = {
    "median": {},
    "trimmed-mean": {"trim": _TRIM},
    "krum": {"byzantine": _BYZANTINE},
    "multi-krum": {"byzantine": _BYZANTINE, "keep": _KEEP},
    "geometric-median": {"iterations": _ITERATIONS, "smoothing": _SMOOTHING},
}
SCRIPT_RULE = "script"
"""The aggregation worker's own program combines the updates."""
RULES: Catalogue = {"mean": {}, **ROBUST_RULES, SCRIPT_RULE: {}}
UNWEIGHTED_RULES = frozenset({"krum", "median", "multi-krum", SCRIPT_RULE, "trimmed-mean"})

_ADAPTIVE = {
    "serverLearningRate": replace(_SERVER_LEARNING_RATE, default=0.01),
    "beta1": _BETA1,
    "beta2": _BETA2,
    "tau": _TAU,
}
MISTNET = "mistnet"
"""One round of another shape: edges release features once, the cloud trains the rest of the model."""
_WORD = 63
_SPLIT = {
    "cutLayer": Parameter(
        "How many layers run on the edges; the model says which it can be cut behind.",
        None,
        Bounds(minimum=1, maximum=1_000),
        kind_if_absent=int,
    ),
    "epsilon": Parameter(
        "Of one released bit: each is told as it is with the chance that this gives. Required, "
        "unless privacy is none.",
        None,
        Bounds(minimum=1e-6, maximum=1e6),
    ),
    "epsilonConvention": Parameter(
        "paper: the chance is sigmoid(epsilon); plato-sue: sigmoid(epsilon / 2).",
        "paper",
        Bounds(choices=("paper", "plato-sue"), max_length=_WORD),
    ),
    "privacy": Parameter(
        "randomized-response turns each bit by chance; none releases the bits as they are.",
        "randomized-response",
        Bounds(choices=("randomized-response", "none"), max_length=_WORD),
    ),
    "maxEpsilon": Parameter(
        "Of one image, over all it was ever released for on its edge: bits times epsilon, summed. "
        "An edge refuses a release beyond it. If left out there is no bound.",
        None,
        Bounds(above=0),
    ),
    "holdOut": Parameter(
        "Which part of every edge's release the tail is tried on instead of trained, where the job "
        "has no spec.evaluation.",
        0.1,
        Bounds(minimum=0, maximum=0.9),
    ),
    "leakageImages": Parameter(
        "On how many images of spec.evaluation attacks are tried, at most; 0 tries none.",
        128,
        Bounds(minimum=0, maximum=100_000),
    ),
}
ALGORITHMS: Catalogue = {
    "fedavg": {"serverLearningRate": _SERVER_LEARNING_RATE},
    "fedavgm": {"momentum": _MOMENTUM, "serverLearningRate": _SERVER_LEARNING_RATE},
    "fedadam": _ADAPTIVE,
    "fedyogi": _ADAPTIVE,
    "fedadagrad": {
        "serverLearningRate": replace(_SERVER_LEARNING_RATE, default=0.03),
        "beta1": replace(_BETA1, default=0.0),
        "tau": _TAU,
    },
    "fedprox": {"proximalMu": _PROXIMAL_MU, "serverLearningRate": _SERVER_LEARNING_RATE},
    "scaffold": {"serverLearningRate": _SERVER_LEARNING_RATE},
    "fednova": {"serverLearningRate": _SERVER_LEARNING_RATE},
    **{
        name: {**parameters, "serverLearningRate": _SERVER_LEARNING_RATE}
        for name, parameters in ROBUST_RULES.items()
    },
    MISTNET: _SPLIT,
}
PLANNED_ALGORITHMS: frozenset[str] = frozenset()

DOWNLINK_CODECS: Catalogue = {
    "none": {},
    "bf16": {},
    "int8": {"blockSize": _BLOCK_SIZE},
    "int4": {"blockSize": replace(_BLOCK_SIZE, default=32)},
    "topk": {"fraction": _FRACTION},
    "stc": {"fraction": _FRACTION},
    "sign": {"blockSize": replace(_BLOCK_SIZE, default=4096)},
    "lowrank": {"rank": _RANK},
}
UPLINK_CODECS: Catalogue = {
    **DOWNLINK_CODECS,
    "dgc": {
        "fraction": replace(_FRACTION, default=0.001),
        "momentum": _CLIENT_MOMENTUM,
        "warmupRounds": _WARMUP_ROUNDS,
    },
}
CODECS: Catalogue = UPLINK_CODECS
BIASED_CODECS = frozenset({"lowrank", "sign", "stc", "topk"})
"""What they lose does not average out: error feedback is on unless the job says otherwise."""

DEFAULT_ALGORITHM = "fedavg"
