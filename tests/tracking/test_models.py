"""A registered model predicts wherever MLflow, numpy and safetensors are."""

import importlib.metadata
import io
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedloom.tracking.model_folder import ModelFolder
from fedloom.tracking.shipped_code import ShippedCode, pinned

SCRIPT = """
import numpy as np

import fedloom
from fedloom.training.numpy import batches
from scores import scale


class Scorer:
    def __init__(self, client: fedloom.Client) -> None:
        raise RuntimeError("a served model has no client")

    def train(self, model: dict[str, np.ndarray], context: fedloom.Round) -> fedloom.Update:
        raise RuntimeError

    @staticmethod
    def predict(model: dict[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
        return scale(inputs @ model["w"])


fedloom.main(Scorer)
"""
ELSEWHERE = """
import sys
sys.path.append(sys.argv[1])  # -S has left out .pth files, and with them an editable install
try:
    import fedloom
    sys.exit("fedloom is installed here")
except ImportError:
    pass
import mlflow
import numpy as np
mlflow.set_tracking_uri(sys.argv[2])
model = mlflow.pyfunc.load_model("models:/digits@champion")
print(model.predict(np.eye(3, dtype=np.float32)).tolist())
print(sorted(name for name in sys.modules if name == "scores"))
"""


def write(folder: Path, **files: str) -> Path:
    """Write these modules and give the path of train.py."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder / "train.py"


@pytest.fixture
def registered(tracker, job, round_result, weights):
    """Register round 2 of the job with this script; its weights are twice the identity."""
    from mlflow.pyfunc import load_model

    def register(script: Path | None):
        tracker.begin(replace(job, script=script and str(script)))
        tracker.register(round_result(2), weights(2))
        return load_model("models:/digits@champion")

    return register


def test_a_model_predicts_in_a_process_without_fedloom(registered, uri, tmp_path):
    scale = "def scale(values):\n    return values * 10\n"
    registered(write(tmp_path / "code", train=SCRIPT, scores=scale))
    (tmp_path / "elsewhere").mkdir()
    packages = sysconfig.get_path("purelib")
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ELSEWHERE, packages, uri],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [
        "[[20.0, 0.0, 0.0], [0.0, 20.0, 0.0], [0.0, 0.0, 20.0]]",
        "[]",
    ]


def test_tables_and_lists_reach_the_script_as_arrays(registered, tmp_path):
    import pandas as pd

    echo = """
import fedloom
class Echo:
    @staticmethod
    def predict(model, inputs):
        return type(inputs).__name__, inputs.shape
if __name__ == "__main__":
    fedloom.main(Echo)
"""
    model = registered(write(tmp_path / "code", train=echo))
    rows = [[1.0, 2.0, 3.0]]
    for inputs in (np.array(rows), pd.DataFrame(rows), rows):
        assert model.predict(inputs) == ("ndarray", (1, 3))


def test_predict_may_be_a_plain_or_a_class_method(registered, tmp_path):
    plain = """
import fedloom
class Plain:
    factor = 3
    def __init__(self, client): raise RuntimeError
    DECORATOR
    def predict(self, model, inputs): return self.factor * (inputs @ model["w"])
fedloom.main(Plain)
"""
    for decorator in ("# none", "@classmethod"):
        script = write(tmp_path / "code", train=plain.replace("DECORATOR", decorator))
        assert registered(script).predict(np.ones((1, 3))).tolist() == [[6.0, 6.0, 6.0]]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param(None, "does not say how to predict. Give the class", id="no script"),
        pytest.param(
            "import fedloom\nclass A: pass\nfedloom.main(A)",
            "static method predict",
            id="no predict",
        ),
        pytest.param("print('nothing')", "does not say how to predict", id="no main"),
        pytest.param(
            "import no_such", "ModuleNotFoundError: No module named 'no_such'", id="import"
        ),
        pytest.param("import sys; sys.exit('usage: -f')", "SystemExit: usage: -f", id="exits"),
        pytest.param("def (", "SyntaxError", id="syntax"),
    ],
)
def test_a_model_that_cannot_predict_says_why_and_keeps_its_weights(
    registered, tmp_path, source, says
):
    import mlflow

    script = None if source is None else write(tmp_path / "code", train=source)
    model = registered(script)
    with pytest.raises(mlflow.MlflowException, match=says) as caught:
        model.predict(np.ones((1, 3)))
    assert "artifacts/model.safetensors" in str(caught.value)
    assert model.unwrap_python_model().weights["w"].tolist() == (2 * np.eye(3)).tolist()


def test_a_folder_is_what_mlflow_itself_writes(tmp_path, weights):
    """Of a later MLflow this test says whether the format moved."""
    import mlflow
    import yaml

    script = write(tmp_path / "code", train="import fedloom")
    ours = tmp_path / "ours"
    folder = ModelFolder(script, ["numpy", "safetensors"])
    folder.write(ours, weights(1))
    mlflow.models.Model().add_flavor("python_function", **folder.flavor("x")).save(
        str(ours / "MLmodel")
    )
    artifacts = {"weights": str(weights(1)), "script": str(script)}
    artifacts["fedloom"] = str(ours / "artifacts" / "fedloom.zip")
    theirs = tmp_path / "theirs"
    mlflow.pyfunc.save_model(
        theirs,
        python_model=str(ours / "model.py"),
        artifacts=artifacts,
        pip_requirements=["numpy", "safetensors"],
    )

    def read(folder):
        flavor = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["python_function"]
        flavor["artifacts"] = sorted(flavor["artifacts"])
        flavor["model_code_path"] = Path(flavor["model_code_path"]).name
        flavor.pop("cloudpickle_version", None)  # nothing of ours is pickled
        names = {path.name for path in folder.iterdir()} - {"__pycache__"}
        return flavor, sorted(names)

    assert read(ours) == read(theirs)
    environment = yaml.safe_load((ours / "python_env.yaml").read_text())
    assert environment.keys() == yaml.safe_load((theirs / "python_env.yaml").read_text()).keys()
    requirements = (ours / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in requirements] == ["mlflow", "numpy", "safetensors"]


def test_the_weights_are_the_file_itself(tmp_path, weights):
    ModelFolder(None, []).write(tmp_path / "m", weights(3))
    written = (tmp_path / "m" / "artifacts" / "model.safetensors").read_bytes()
    assert written == weights(3).read_bytes()
    assert not (tmp_path / "m" / "artifacts" / "code").exists()


def test_what_a_script_imports_beside_it_goes_with_it(tmp_path):
    script = write(
        tmp_path / "code",
        train="import net.layers\nfrom shapes import square\nimport sklearn.svm, json, fedloom",
        shapes="def f():\n    import deep",
        deep="import shapes\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import never",
        never="",
        unrelated="",
        fedloom="raise RuntimeError('not this one')",
    )
    package = tmp_path / "code" / "net"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "layers.py").write_text("import os")
    code = ShippedCode(script)
    assert sorted(code.files) == [
        "deep.py",
        "net/__init__.py",
        "net/layers.py",
        "shapes.py",
        "train.py",
    ]
    assert code.libraries == {"sklearn"}


def test_of_fedloom_goes_what_is_used_and_equal_code_gives_equal_bytes(tmp_path):
    script = write(tmp_path / "code", train="from fedloom.training.numpy import batches")
    archive = ShippedCode(script).archive
    names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert "fedloom/training/numpy.py" in names
    assert "fedloom/training/context.py" in names
    assert not [name for name in names if "tracking" in name or "torch" in name]
    assert ShippedCode(script).archive == archive


def test_requirements_name_each_library_once_with_its_version():
    found = pinned(["numpy", "torch>=2", "sklearn", "numpy<3", "torch", "no-such-library"])
    assert found == [
        f"numpy=={np.__version__}",
        "torch>=2",
        f"scikit-learn=={importlib.metadata.version('scikit-learn')}",
        "no-such-library",
    ]
