"""What this version implements, as plain data: algorithms, codecs, and their parameters.

A name that is in no catalogue but in a `PLANNED` set is refused as "known, but not part of this
version", every other name as unknown.
"""

from __future__ import annotations

from fedloom.api.declaration import Bounds, Catalogue, Parameter

_SERVER_LEARNING_RATE = Parameter(
    "The server adds this times the clients' mean update to the model; 1 is plain averaging.",
    1.0,
    Bounds(above=0),
)
_MOMENTUM = Parameter(
    "How much of the last round's step goes into the next one; 0 is fedavg.",
    0.9,
    Bounds(minimum=0, below=1),
)
_BLOCK_SIZE = Parameter(
    "How many values share one scale: smaller is more exact and a little larger to send.",
    256,
    Bounds(minimum=16, maximum=65536, power_of_two=True),
)

ALGORITHMS: Catalogue = {
    "fedavg": {"serverLearningRate": _SERVER_LEARNING_RATE},
    "fedavgm": {"momentum": _MOMENTUM, "serverLearningRate": _SERVER_LEARNING_RATE},
}
PLANNED_ALGORITHMS = frozenset(
    {
        "fedadagrad",
        "fedadam",
        "fednova",
        "fedprox",
        "fedyogi",
        "geometric-median",
        "krum",
        "median",
        "mistnet",
        "multi-krum",
        "scaffold",
        "trimmed-mean",
    }
)

UPLINK_CODECS: Catalogue = {"none": {}, "int8": {"blockSize": _BLOCK_SIZE}}
DOWNLINK_CODECS: Catalogue = {"none": {}}
CODECS: Catalogue = {**UPLINK_CODECS, **DOWNLINK_CODECS}
PLANNED_CODECS = frozenset({"int4", "lowrank", "sign", "stc", "topk"})

DEFAULT_ALGORITHM = "fedavg"
