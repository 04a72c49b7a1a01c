"""Algorithms and codecs, and the parameters of each, are those that this version has."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        pytest.param(
            {"algorithm": {"name": "mistnet"}},
            "spec.algorithm.parameters.epsilon",
            "got none, expected a number above 0 (of one bit), or privacy: none",
            id="mistnet",
        ),
        pytest.param(
            {"algorithm": {"name": "fedavgn"}}, "spec.algorithm.name", "did you mean", id="unknown"
        ),
        pytest.param(
            {"algorithm": {"name": ""}}, "spec.algorithm.name", "expected fedavg", id="nameless"
        ),
        pytest.param(
            {"algorithm": {"name": "fedavg", "parameters": {"momentum": 0.5}}},
            "spec.algorithm.parameters.momentum",
            "unknown parameter of fedavg, expected serverLearningRate",
            id="parameter-of-another",
        ),
        pytest.param(
            {"algorithm": {"name": "fedavgm", "parameters": {"momentun": 0.5}}},
            "spec.algorithm.parameters.momentun",
            "did you mean 'momentum'?",
            id="parameter-misspelt",
        ),
        *(
            pytest.param(
                {"algorithm": {"name": "fedavgm", "parameters": {"momentum": value}}},
                "spec.algorithm.parameters.momentum",
                message,
                id=f"momentum-{value}",
            )
            for value, message in (
                (1, "expected less than 1"),
                (-0.1, "expected at least 0"),
                (True, "got true (a boolean)"),
                ("0.9", "leave out the quotes"),
            )
        ),
        pytest.param(
            {"algorithm": {"name": "fedadagrad", "parameters": {"beta2": 0.9}}},
            "spec.algorithm.parameters.beta2",
            "unknown parameter of fedadagrad",
            id="beta2-of-another",
        ),
        *(
            pytest.param(
                {"algorithm": {"name": name, "parameters": {parameter: value}}},
                f"spec.algorithm.parameters.{parameter}",
                message,
                id=f"{name}-{parameter}-{value}",
            )
            for name, parameter, value, message in (
                ("fedadam", "beta2", 1.0, "expected less than 1"),
                ("fedyogi", "beta1", -0.1, "expected at least 0"),
                ("fedadagrad", "tau", 0, "expected at least 1e-12"),
                ("fedadam", "tau", 1e7, "expected at most 1000000"),
            )
        ),
        pytest.param(
            {"algorithm": {"name": "fedavg", "parameters": {"serverLearningRate": 0}}},
            "spec.algorithm.parameters.serverLearningRate",
            "expected more than 0",
            id="rate-zero",
        ),
        *(
            pytest.param(
                {"algorithm": {"name": "trimmed-mean", "parameters": {"trim": value}}},
                "spec.algorithm.parameters.trim",
                message,
                id=f"trim-{value}",
            )
            for value, message in ((-1, "expected at least 0"), (1.5, "got 1.5"))
        ),
        pytest.param(
            {"algorithm": {"name": "median", "parameters": {"byzantine": 1}}},
            "spec.algorithm.parameters.byzantine",
            "unknown parameter of median",
            id="parameter-of-another-rule",
        ),
        pytest.param(
            {"compression": {"downlink": {"codec": "dgc"}}},
            "spec.compression.downlink.codec",
            "expected none, bf16, int8",
            id="downlink-without-momentum",
        ),
        pytest.param(
            {"compression": {"downlink": {"codec": "topk", "errorFeedback": False}}},
            "spec.compression.downlink.errorFeedback",
            "clients would drift away",
            id="downlink-without-feedback",
        ),
        pytest.param(
            {"compression": {"uplink": {"codec": "dgc", "errorFeedback": True}}},
            "spec.compression.uplink.errorFeedback",
            "dgc keeps what it did not send by itself",
            id="two-feedbacks",
        ),
        pytest.param(
            {"compression": {"uplink": {"codec": "topk", "fraction": 0}}},
            "spec.compression.uplink.fraction",
            "expected more than 0",
            id="fraction-zero",
        ),
        pytest.param(
            {"compression": {"uplink": {"codec": "bf16", "blockSize": 64}}},
            "spec.compression.uplink.blockSize",
            "unknown parameter of bf16",
            id="parameter-of-another-codec",
        ),
        pytest.param(
            {"compression": {"uplink": {"codec": "in8"}}},
            "spec.compression.uplink.codec",
            "did you mean 'int8'?",
            id="codec-misspelt",
        ),
        pytest.param(
            {"compression": {"uplink": {"codec": "int8", "blocksize": 64}}},
            "spec.compression.uplink.blocksize",
            "did you mean 'blockSize'?",
            id="codec-parameter",
        ),
        pytest.param(
            {"compression": {"uplink": {"codec": "int8", "errorFeedbak": True}}},
            "spec.compression.uplink.errorFeedbak",
            "did you mean 'errorFeedback'?",
            id="codec-field",
        ),
        *(
            pytest.param(
                {"compression": {"uplink": {"codec": "int8", "blockSize": value}}},
                "spec.compression.uplink.blockSize",
                message,
                id=f"block-{value}",
            )
            for value, message in (
                (8, "at least 16"),
                (131072, "at most 65536"),
                (100, "a power of two"),
                (64.0, "leave out the decimals"),
                ("64", "leave out the quotes"),
            )
        ),
    ],
)
def test_a_choice_that_this_version_does_not_have_is_refused(checked, spec, field, message):
    problems = checked(**spec)
    assert list(problems) == [field]
    assert message in problems[field]
