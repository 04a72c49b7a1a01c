"""How a process of its own keeps MLflow small, silent and at home.

Full MLflow imports pandas, pyarrow, scipy and more to offer what tracking never asks for: 190 MB and
twice the time. MLflow's own slim distribution, mlflow-skinny, does without them; a process that hides
them runs as if that one were installed, with half the memory.
"""

from __future__ import annotations

import os
import sys

HIDDEN_LIBRARIES = ("matplotlib", "numpy", "pandas", "pyarrow", "scipy", "sklearn")

# What the user's environment says wins.
SWITCHES = {
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def prepare_process() -> None:
    """Call this before the first import of MLflow, in a process that only tracks."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    for name in HIDDEN_LIBRARIES:
        # None is Python's own word for "not there".
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def show_libraries() -> None:
    """Undo the hiding, and forget what MLflow imported so far: for a version that cannot do without."""
    for name in HIDDEN_LIBRARIES:
        if sys.modules.get(name, name) is None:
            del sys.modules[name]
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "mlflow" and module is not None:
            del sys.modules[name]
