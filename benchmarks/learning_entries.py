"""What `learning.py` measures, beside what an independent numpy program reached with the same set-up."""

from __future__ import annotations

from collections.abc import Sequence

from learning_case import Case, Encoding

_MOMENTUM = {"momentum": 0.9, "serverLearningRate": 0.3}
ALGORITHMS: Sequence[tuple[Case, Sequence[float] | None]] = (
    (Case(), (0.950, 0.946, 0.927)),
    (Case("fedprox", {"proximalMu": 0.1}), (0.950, 0.946, 0.927)),
    (Case("fednova"), (0.950, 0.947, 0.932)),
    (Case("scaffold"), (0.952, 0.951, 0.956)),
    (Case("fedavgm", _MOMENTUM), (0.960, 0.960, 0.945)),
    (Case("fedavgm"), None),
    (Case("fedadam"), (0.964, 0.961, 0.953)),
    (Case("fedyogi"), (0.964, 0.961, 0.951)),
    (Case("fedadagrad"), (0.967, 0.967, 0.956)),
)

CODECS: Sequence[tuple[Encoding, tuple[float, float] | None]] = (  # with ratio, accuracy
    (Encoding(), (1, 0.946)),
    (Encoding("bf16"), (2, 0.946)),
    (Encoding("int8"), (4, 0.946)),
    (Encoding("int4"), (8, 0.946)),
    (Encoding("lowrank", {"rank": 2}, True), (13, 0.944)),
    (Encoding("lowrank", {"rank": 2}), (13, 0.929)),
    (Encoding("lowrank", {"rank": 1}, True), (21.9, 0.941)),
    (Encoding("sign", {}, True), (31.9, 0.941)),
    (Encoding("sign"), (31.9, 0.894)),
    (Encoding("topk", {"fraction": 0.1}), (5, 0.939)),
    (Encoding("topk", {"fraction": 0.01}, True), (50, 0.942)),
    (Encoding("topk", {"fraction": 0.01}), (50, 0.912)),
    (Encoding("topk", {"fraction": 0.001}, True), (500, 0.912)),
    (Encoding("topk", {"fraction": 0.001}), (500, 0.756)),
    (Encoding("stc", {"fraction": 0.01}, True), (343, 0.940)),
    (Encoding("stc", {"fraction": 0.0096}, True), (343, 0.940)),
    (Encoding("stc", {"fraction": 0.0025}, True), (1084, 0.931)),
    (Encoding("stc", {"fraction": 0.0022}, True), (1084, 0.931)),
    (Encoding("dgc", {"fraction": 0.01}), None),
    (Encoding("dgc", {"fraction": 0.001}), None),
)

RULES: Sequence[tuple[Case, float, float]] = (
    (Case(), 0.102, 0.946),
    (Case(clip_quantile=0.5), 0.808, 0.943),
    (Case(rule="median"), 0.819, 0.915),
    (Case(rule="trimmed-mean", rule_parameters={"trim": 2}), 0.862, 0.941),
    (Case(rule="geometric-median"), 0.871, 0.940),
    (Case(rule="krum", rule_parameters={"byzantine": 2}), 0.0, 0.0),
    (Case(rule="multi-krum", rule_parameters={"byzantine": 2}), 0.889, 0.927),
)

_UP = Encoding("stc", {"fraction": 0.01}, True)
_DOWN = Encoding("stc", {"fraction": 0.02})
_HALF = {"momentum": 0.5}
BOTH_WAYS: Sequence[tuple[str, Case]] = (
    ("fedavg, nothing compressed", Case()),
    ("fedavg, stc 1 % up", Case(uplink=_UP)),
    ("fedavg, int8 both ways", Case(uplink=Encoding("int8"), downlink=Encoding("int8"))),
    ("fedavg, stc 1 % up and 2 % down", Case(uplink=_UP, downlink=_DOWN)),
    ("fedavgm 0.5, nothing compressed", Case("fedavgm", _HALF)),
    ("fedavgm 0.5, stc 1 % up and 2 % down", Case("fedavgm", _HALF, uplink=_UP, downlink=_DOWN)),
)
