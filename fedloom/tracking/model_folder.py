"""The folder of a registered model, all but its MLmodel file.

model.py                        fedloom/tracking/served_model.py
artifacts/model.safetensors     the weights
artifacts/code/<script>         the training script, and the modules beside it that it imports
requirements.txt  python_env.yaml  conda.yaml
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedloom.tracking.shipped_code import ShippedCode, pinned

MODEL_CODE = "model.py"
WEIGHTS = "artifacts/model.safetensors"
CODE = "artifacts/code"
FEDLOOM = "artifacts/fedloom.zip"
_SERVED_MODEL = Path(__file__).with_name("served_model.py")


class ModelFolder:
    """Writes model folders of one job: the code is read once and is the same for every round."""

    def __init__(self, script: Path | None, requirements: Sequence[str]) -> None:
        """`script` is the training script, where it is a Python class's. Raises OSError."""
        self._files: dict[str, bytes] = {MODEL_CODE: _SERVED_MODEL.read_bytes()}
        self._artifacts = {"weights": WEIGHTS}
        needed = ["mlflow", *requirements]
        if script is not None:
            code = ShippedCode(script)
            self._files |= {f"{CODE}/{name}": data for name, data in code.files.items()}
            self._files[FEDLOOM] = code.archive
            self._artifacts |= {"script": f"{CODE}/{script.name}", "fedloom": FEDLOOM}
            needed += sorted(code.libraries)
        self._files |= _environment_files(pinned(needed))

    def write(self, folder: Path, model_file: Path) -> None:
        """Write the folder of the round whose weights these are. Raises OSError."""
        for name, data in self._files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        weights = folder / WEIGHTS
        weights.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(model_file, weights)
        except OSError:  # another disk, or one without links
            shutil.copyfile(model_file, weights)

    def flavor(self, weights_uri: str) -> dict[str, Any]:
        """The entry `python_function` of the MLmodel file, as MLflow writes it for models from code."""
        artifacts = {name: {"path": path, "uri": path} for name, path in self._artifacts.items()}
        artifacts["weights"]["uri"] = weights_uri
        return {
            "loader_module": "mlflow.pyfunc.loaders.code_model",
            "model_code_path": MODEL_CODE,
            "python_version": platform.python_version(),
            "artifacts": artifacts,
            "code": None,
            "streamable": False,
            "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        }


def _environment_files(requirements: Sequence[str]) -> dict[str, bytes]:
    """How to make an environment that loads the model. JSON is YAML."""
    python = platform.python_version()
    pip = {"pip": list(requirements)}
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", pip],
    }
    virtual = {
        "python": python,
        "build_dependencies": ["pip"],
        "dependencies": ["-r requirements.txt"],
    }
    return {
        "requirements.txt": "".join(f"{line}\n" for line in requirements).encode(),
        "conda.yaml": json.dumps(conda, indent=1).encode(),
        "python_env.yaml": json.dumps(virtual, indent=1).encode(),
    }
