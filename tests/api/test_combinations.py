"""Fields that are right by themselves and wrong together are refused, with the reason."""

from __future__ import annotations

import pytest

MASKS = {"secureAggregation": True, "clipNorm": 1.0}
NOISE = {"clipNorm": 1.0, "noiseMultiplier": 1.1, "delta": 1e-5, "maxEpsilon": 8.0}
RATE = {"learningRate": 0.1}


def uplink(codec, **more):
    return {"uplink": {"codec": codec, **more}}


@pytest.mark.parametrize(
    "spec",
    [
        {"algorithm": {"name": "fedadam"}, "aggregation": {"rule": "multi-krum", "byzantine": 0}},
        {"aggregation": {"rule": "trimmed-mean", "trim": 1, "clipQuantile": 0.5}},
        {"aggregation": {"weights": "steps", "exclude": ["bn.*"], "fanIn": 4}},
        {"aggregation": {"rule": "median", "shards": 4}},
        {"algorithm": {"name": "scaffold"}, "hyperparameters": RATE},
        {"algorithm": {"name": "fednova"}, "aggregation": {"weights": "uniform"}},
        {"algorithm": {"name": "fedprox", "parameters": {"proximalMu": 0.0}}},
        {"transfer": {"anchor": {"kind": "l2sp", "mu": 0.1}}},
        {"privacy": NOISE},
        {"privacy": {**NOISE, "clipQuantile": 0.5}, "algorithm": {"name": "fedadam"}},
        {"privacy": {**MASKS, "noiseMultiplier": 1.0}, "compression": uplink("int8")},
        {"privacy": {"local": {"mechanism": "laplace", "epsilon": 5.0}}},
        {"compression": {**uplink("dgc", lossless="zstd"), "downlink": {"codec": "stc"}}},
        {"participation": {"clientsPerRound": 2, "overSelection": 1.5}},
        {"participation": {"clientsPerRound": 2, "sampling": "poisson"}},
    ],
)
def test_what_goes_together_is_accepted(checked, spec):
    assert checked(**spec) == {}


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        (
            {"algorithm": {"name": "median"}, "aggregation": {"rule": "krum"}},
            "spec.aggregation.rule",
            "'median', which is a rule itself",
        ),
        ({"aggregation": {"rule": "krun"}}, "spec.aggregation.rule", "did you mean 'krum'?"),
        (
            {"algorithm": {"name": "median"}, "compression": uplink("stc")},
            "spec.compression.uplink.codec",
            "the model stands still",
        ),
        ({"aggregation": {"trim": 1}}, "spec.aggregation.trim", "unknown parameter of mean"),
        (
            {"aggregation": {"clipNorm": 1.0, "clipQuantile": 0.5}},
            "spec.aggregation.clipQuantile",
            "one of the two bounds",
        ),
        (
            {"aggregation": {"rule": "median", "weights": "steps"}},
            "spec.aggregation.weights",
            "which median does not look at",
        ),
        (
            {"algorithm": {"name": "krum"}, "aggregation": {"fanIn": 4}},
            "spec.aggregation.fanIn",
            "only sums form a tree",
        ),
        (
            {"aggregation": {"rule": "krum", "shards": 2}},
            "spec.aggregation.shards",
            "measures whole updates",
        ),
        (
            {"aggregation": {"fanIn": 2, "shards": 2}},
            "spec.aggregation.shards",
            "one of the two ways",
        ),
        (
            {"algorithm": {"name": "scaffold"}},
            "spec.hyperparameters",
            "divides by the learning rate",
        ),
        (
            {"algorithm": {"name": "scaffold"}, "aggregation": {"clipNorm": 1.0}},
            "spec.aggregation",
            "clipping with scaffold",
        ),
        (
            {
                "algorithm": {"name": "scaffold"},
                "privacy": {"local": {"mechanism": "laplace", "epsilon": 5.0}},
            },
            "spec.privacy.local",
            "would go out without noise",
        ),
        (
            {
                "algorithm": {"name": "scaffold"},
                "hyperparameters": RATE,
                "participation": {"clientsPerRound": 2},
            },
            "spec.participation.clientsPerRound",
            "known to diverge",
        ),
        (
            {
                "algorithm": {"name": "scaffold"},
                "hyperparameters": RATE,
                "compression": uplink("topk"),
            },
            "spec.compression.uplink.codec",
            "need an unbiased codec",
        ),
        (
            {"algorithm": {"name": "fednova"}, "aggregation": {"rule": "median"}},
            "spec.aggregation.rule",
            "made for the mean",
        ),
        (
            {"privacy": {"maxEpsilon": 1.0, "delta": 1e-5}},
            "spec.privacy.maxEpsilon",
            "without noiseMultiplier",
        ),
        (
            {"privacy": {"noiseMultiplier": 1.0}},
            "spec.privacy.clipNorm",
            "the noise is in units of it",
        ),
        (
            {"privacy": {"clipNorm": 1.0}},
            "spec.privacy.clipNorm",
            "spec.aggregation.clipNorm",
        ),
        (
            {"privacy": NOISE, "algorithm": {"name": "median"}},
            "spec.privacy.noiseMultiplier",
            "got it with median",
        ),
        (
            {"privacy": NOISE, "aggregation": {"weights": "examples"}},
            "spec.aggregation.weights",
            "every client counts the same",
        ),
        (
            {
                "privacy": NOISE,
                "participation": {"sampling": "poisson", "clientsPerRound": 2, "minClients": 1},
            },
            "spec.participation.minClients",
            "is no Poisson sample",
        ),
        (
            {
                "privacy": {**MASKS, **NOISE},
                "participation": {"sampling": "poisson", "clientsPerRound": 3},
            },
            "spec.participation.sampling",
            "masks need three clients",
        ),
        (
            {"privacy": MASKS, "algorithm": {"name": "trimmed-mean"}},
            "spec.privacy.secureAggregation",
            "needs more than the sum",
        ),
        (
            {"privacy": MASKS, "compression": uplink("topk")},
            "spec.compression.uplink.codec",
            "summed as integers on one grid",
        ),
        (
            {"privacy": {"secureAggregation": True}},
            "spec.privacy.clipNorm",
            "sums need a bound",
        ),
        (
            {
                "privacy": MASKS,
                "participation": {"clientsPerRound": 3, "overSelection": 1.5},
            },
            "spec.participation.overSelection",
            "shares no mask",
        ),
        (
            {"privacy": MASKS, "participation": {"clientsPerRound": 2}},
            "spec.participation.clientsPerRound",
            "expected 3 or more",
        ),
        (
            {"participation": {"overSelection": 2.0}},
            "spec.participation.overSelection",
            "without clientsPerRound",
        ),
        (
            {"participation": {"sampling": "poisson"}},
            "spec.participation.sampling",
            "without clientsPerRound",
        ),
        (
            {"transfer": {"from": [{"model": "a"}], "freeze": True}},
            "spec.transfer.freeze",
            "with mode body",
        ),
    ],
)
def test_what_excludes_each_other_is_refused_with_the_reason(checked, spec, field, message):
    assert message in checked(**spec)[field]


def test_two_clients_have_no_secrets_from_each_other(checked, job_document):
    two = job_document()["spec"]["trainingWorkers"][:2]
    problems = checked(privacy=MASKS, trainingWorkers=two)
    assert "3 or more" in problems["spec.privacy.secureAggregation"]
