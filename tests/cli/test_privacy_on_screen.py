"""What is spent is seen while a job runs, however much else it measures, and described to MLflow."""

from __future__ import annotations

import io

from rich.console import Console

from cli.live_table import LiveTable
from cli.screens import lines_of
from fedloom.api.defaults import with_defaults
from fedloom.api.reading import read_object
from pipelines.environment import public_parameters


def a_job(**spec):
    template = {"spec": {"containers": [{"name": "t", "command": ["python", "t.py"]}]}}
    document = {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": "FederatedLearningJob",
        "metadata": {"name": "j"},
        "spec": {
            "aggregationWorker": {"model": {"name": "m"}, "template": template},
            "trainingWorkers": [{"dataset": {"name": "a"}, "template": template}],
            **spec,
        },
    }
    return with_defaults(read_object(document))


def a_round(**metrics):
    return {
        "event": "round",
        "round": 1,
        "rounds": 3,
        "seconds": 0.1,
        "metrics": metrics,
        "clients": {},
        "traffic": {"uplink_bytes": 0, "downlink_bytes": 0},
    }


def table_of(event):
    table = LiveTable(a_job())
    table.show(event)
    console = Console(width=160, file=io.StringIO())
    console.print(table._table())
    return console.file.getvalue()


def test_epsilon_has_a_column_beside_any_number_of_metrics():
    many = dict.fromkeys("abcdef", 0.5)
    shown = table_of(a_round(**many, **{"privacy/epsilon": 1.25, "train/loss": 0.1}))
    assert "privacy/epsilon" in shown
    assert "1.2500" in shown
    assert "train/loss" not in shown
    assert "privacy/epsilon" not in table_of(a_round(**many))


def test_a_line_of_a_round_tells_epsilon():
    assert "privacy/epsilon 1.2500" in lines_of(a_round(**{"privacy/epsilon": 1.25}))[0]


def test_mlflow_is_told_what_was_promised_and_nothing_where_nothing_was():
    noise = {"clipNorm": 1.0, "noiseMultiplier": 2.0, "delta": 1e-5, "maxEpsilon": 8.0}
    local = {"mechanism": "laplace", "epsilon": 3.0}
    told = public_parameters(a_job(privacy={**noise, "local": local}))
    assert told["privacy.noiseMultiplier"] == 2.0
    assert told["privacy.maxEpsilon"] == 8.0
    assert told["privacy.local.mechanism"] == "laplace"
    assert told["participation.sampling"] == "fixed"
    assert not any(name.startswith("privacy") for name in public_parameters(a_job()))
