"""The library's surface: the names that scripts import, in any Python from 3.6, with nothing beside numpy."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

from compat.sedna.algorithms.aggregation import FedAvg, FedAvgV2, MistNet
from compat.sedna.algorithms.aggregation.aggregation import AggClient
from compat.sedna.algorithms.client_choose import SimpleClientChoose
from compat.sedna.common.class_factory import ClassFactory, ClassType
from compat.sedna.common.config import Context
from compat.sedna.common.file_ops import FileOps

COMPAT = Path(importlib.util.find_spec("compat").origin).parent
MODULES = sorted((COMPAT / "sedna").rglob("*.py"))
SURFACE = {
    "core.federated_learning": "FederatedLearning FederatedLearningV2",
    "service.server": "AggregationServer AggregationServerV2",
    "common.config": "Context BaseConfig",
    "datasources": "BaseDataSource TxtDataParse CSVDataParse JSONDataParse",
    "algorithms.aggregation": "FedAvg FedAvgV2 MistNet AggClient",
    "algorithms.aggregation.aggregation": "BaseAggregation FedAvg",
    "algorithms.client_choose": "SimpleClientChoose",
    "algorithms.transmitter": "WSTransmitter S3Transmitter",
    "common.class_factory": "ClassFactory ClassType",
    "common.file_ops": "FileOps",
    "common.log": "LOGGER",
}


@pytest.mark.parametrize("module", SURFACE)
def test_what_scripts_import_is_there(module):
    found = importlib.import_module(f"compat.sedna.{module}")
    for name in SURFACE[module].split():
        assert hasattr(found, name), name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(COMPAT)))
def test_a_module_is_python_3_6_and_imports_numpy_alone(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 6))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [] if node.level else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            root = name.split(".")[0]
            assert root in sys.stdlib_module_names or root == "numpy", name
            assert root not in (
                "pickle",
                "joblib",
                "dataclasses",
                "__future__",
                "shelve",
                "marshal",
            )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(COMPAT)))
def test_a_module_states_its_law_and_stays_small(path):
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source))
    assert len(source.splitlines()) <= 300


def test_importing_it_loads_no_framework_and_changes_nothing(run):
    script = """
import random, sys
import numpy as np
state = random.getstate(), np.random.get_state()[1].tolist()
import sedna.core.federated_learning, sedna.service.server, sedna.datasources, sedna.common.file_ops
assert not {"torch", "tensorflow", "keras", "sklearn", "pandas"} & set(sys.modules)
assert state == (random.getstate(), np.random.get_state()[1].tolist())
"""
    assert run(script, None).code == 0


def test_epsilon_is_not_taken_from_cut_layer():
    assert MistNet(cut_layer="4", epsilon="100").parameters == {
        "type": "mistnet",
        "cut_layer": 4,
        "epsilon": 100,
    }
    assert MistNet("conv3", "0.5").parameters["cut_layer"] == "conv3"
    assert MistNet("conv3", "0.5").parameters["epsilon"] == 0.5
    assert MistNet(4).parameters["epsilon"] == 100


def test_v2_carries_parameters_and_computes_nothing():
    assert FedAvgV2().parameters == {"type": "fedavg"}
    assert FedAvgV2().aggregate([]) is None
    assert SimpleClientChoose(per_round="2").parameters == {"per_round": 2}
    with pytest.raises(ValueError, match="per_round: got 'all', expected a whole number"):
        SimpleClientChoose(per_round="all")


def test_fedavg_takes_lists_as_in_sedna():
    clients = [AggClient(), AggClient()]
    clients[0].num_samples, clients[0].weights = 1, [[1.0, 1.0], [[2.0]]]
    clients[1].num_samples, clients[1].weights = 3, [[5.0, 1.0], [[6.0]]]
    rule = FedAvg()
    mean = rule.aggregate(clients)
    assert [array.tolist() for array in mean] == [[4.0, 1.0], [[5.0]]]
    assert rule.total_size == 4
    assert rule.aggregate([]) is rule.weights


@pytest.mark.parametrize("spelling", ["EPOCHS", "epochs", "Epochs"])
def test_a_parameter_is_found_in_either_case(monkeypatch, spelling):
    monkeypatch.delenv("EPOCHS", raising=False)
    monkeypatch.setenv("epochs", "5")
    assert Context.get_parameters(spelling) == "5"
    monkeypatch.setenv("epochs", "")
    assert Context.get_parameters(spelling, 3) == 3


def test_base_config_is_read_as_class_and_as_object(run):
    script = """
from sedna.common.config import BaseConfig
assert BaseConfig.train_dataset_url == BaseConfig().train_dataset_url == "/data/a.txt"
assert BaseConfig() is BaseConfig()
assert BaseConfig().get("test_dataset_url", "none") == "none"
assert BaseConfig.is_torch_backend() and not BaseConfig.is_kr_backend()
assert BaseConfig().parameter == {"a": 1}
"""
    done = run(
        script, None, TRAIN_DATASET_URL="/data/a.txt", BACKEND_TYPE="TORCH", PARAMETERS='{"a": 1}'
    )
    assert done.code == 0, done.output


def test_a_class_that_is_not_registered_is_named():
    with pytest.raises(ValueError, match=r"got aggregation 'Nope', registered are: .*FedAvg"):
        ClassFactory.get_cls(ClassType.FL_AGG, "Nope")


def test_transmitters_come_from_the_environment_and_hide_the_key(run):
    script = """
from sedna.core.federated_learning import FederatedLearningV2
made = FederatedLearningV2.get_transmitter_from_config()
print(made, made.transmitter_url)
"""
    variables = {"TRANSMITTER": "s3", "AGG_DATA_PATH": "s3://b/p", "SECRET_ACCESS_KEY": "hush"}
    done = run(script, None, **variables)
    assert "s3://b/p" in done.output
    assert "hush" not in done.output


def test_files_are_joined_copied_and_never_unpickled(tmp_path):
    assert FileOps.join_path("/home/data", "/model", "m.pb") == "/home/data/model/m.pb"
    assert FileOps.join_path("s3://bucket", "a") == "s3://bucket/a"
    assert FileOps.remove_path_prefix("/home/data/model", "/home/data/") == "/model"
    (tmp_path / "a").write_text("x")
    FileOps.copy_file(str(tmp_path / "a"), str(tmp_path / "b" / "c"))
    assert (tmp_path / "b" / "c").read_text() == "x"
    with pytest.raises(ValueError, match="expected a path or http"):
        FileOps.download("s3://bucket/a", str(tmp_path / "d"))
    assert not hasattr(FileOps, "load_pickle")
